"""Grade sampled answers: Hendrycks string equality (the training reward) and strict boxed-only math-verify beside it.

Unit and tolerance of a question, if its file has these columns, are for math-verify only: Hendrycks equality stays
the official rule. Writes one row per answer: update, benchmark, question, sample, hendrycks, math_verify, boxed, and
`reward` (float64) where the training reward is another than Hendrycks equality.
"""

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main


def read_questions(paths: list[Path]) -> dict[tuple[str, str], dict]:
    """Row of a question by (benchmark, question id); a file's name is the benchmark.

    Raises:
        ValueError: a repeated id.
    """
    from prerl.core.files import read_problems

    questions: dict[tuple[str, str], dict] = {}
    for path in paths:
        for row in read_problems(path).to_pylist():
            if (path.stem, row["id"]) in questions:
                raise ValueError(f"{path}: question {row['id']!r} occurs twice; prepare the data again without repeats")
            questions[path.stem, row["id"]] = row
    return questions


def check_questions(updates: list[int], questions: list[tuple[str, str]], answers: dict, samples: Path) -> None:
    """Raise ValueError unless every update sampled exactly the (benchmark, question) pairs with a ground truth."""
    sampled: dict[int, set] = {update: set() for update in updates}
    for update, question in zip(updates, questions, strict=True):
        sampled[update].add(question)
    for update, found in sampled.items():
        unknown, missing = sorted(found - answers.keys()), sorted(answers.keys() - found)
        if unknown:
            raise ValueError(
                f"{samples}: update {update} has {len(unknown)} questions without a ground truth, first {unknown[0]}; "
                "pass the --questions files that the samples were drawn for ({benchmark}.parquet)"
            )
        if missing:
            raise ValueError(
                f"{samples}: update {update} has no sample of {len(missing)} questions, first {missing[0]}; "
                "run generate_samples again with the same --questions files"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON, see rules/evaluate.smk")
    parser.add_argument("--samples", required=True, type=Path, help="samples of one method and seed")
    parser.add_argument("--questions", required=True, type=Path, nargs="+", help="{benchmark}.parquet with answers")
    parser.add_argument("--grades", required=True, type=Path, help="output")
    arguments = parser.parse_args()
    # imported here, not above: every grading worker imports this file again and needs none of it
    import pyarrow as pa

    from prerl.core.files import read_table, write_parquet
    from prerl.evaluation.answers import SAMPLE_KEY, SAMPLE_KEY_FIELDS, check_unique_samples
    from prerl.evaluation.grades import grade_answers

    samples = read_table(arguments.samples, columns=[*SAMPLE_KEY, "text"])
    known = read_questions(arguments.questions)
    check_unique_samples(samples, arguments.samples)
    questions = list(zip(samples["benchmark"].to_pylist(), samples["question"].to_pylist(), strict=True))
    check_questions(samples["update"].to_pylist(), questions, known, arguments.samples)

    problems = [known[question] for question in questions]
    grades = grade_answers(samples["text"].to_pylist(), problems, arguments.settings)
    kinds = {"hendrycks": pa.bool_(), "math_verify": pa.string(), "boxed": pa.string(), "reward": pa.float64()}
    fields = [*SAMPLE_KEY_FIELDS, *(pa.field(name, kinds[name]) for name in grades)]
    columns = [*(samples[name].to_pylist() for name in SAMPLE_KEY), *grades.values()]
    write_parquet(arguments.grades, pa.table(columns, schema=pa.schema(fields)))
    verdicts = grades["math_verify"]
    print(
        f"{len(verdicts)} answers; right: {sum(grades['hendrycks'])} (Hendrycks), {verdicts.count('right')} "
        f"(math-verify); {verdicts.count('unscorable')} unscorable, {grades['boxed'].count(None)} without a box"
    )


if __name__ == "__main__":
    run_main(main)
