"""Grade sampled answers: Hendrycks string equality (the training reward) and strict boxed-only math-verify beside it.

Unit and tolerance of a question, if its file has these columns, are for math-verify only: Hendrycks equality stays
the official rule. Writes one row per answer: update, benchmark, question, sample, hendrycks, math_verify, boxed.
"""

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.evaluation.grading import grade_math_verify
from prerl.rollouts.rewards import is_equiv, last_boxed


def read_answers(paths: list[Path]) -> dict[tuple[str, str], tuple]:
    """Answer, unit and tolerance by (benchmark, question id); a file's name is the benchmark.

    The columns unit (text) and tolerance (number) may be absent from a file, and None if a question has none.

    Raises:
        ValueError: a repeated id.
    """
    from prerl.core.files import read_problems

    answers: dict[tuple[str, str], tuple] = {}
    for path in paths:
        for row in read_problems(path).to_pylist():
            if (path.stem, row["id"]) in answers:
                raise ValueError(f"{path}: question {row['id']!r} occurs twice; prepare the data again without repeats")
            answers[path.stem, row["id"]] = row["answer"], row.get("unit"), row.get("tolerance")
    return answers


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
    parser.add_argument("--settings", required=True, type=json.loads, help='{"processes": int, "time_limit_s": float}')
    parser.add_argument("--samples", required=True, type=Path, help="samples of one method and seed")
    parser.add_argument("--questions", required=True, type=Path, nargs="+", help="{benchmark}.parquet with answers")
    parser.add_argument("--grades", required=True, type=Path, help="output")
    arguments = parser.parse_args()
    # imported here, not above: every grading worker imports this file again and needs none of it
    import pyarrow as pa

    from prerl.core.files import read_table, write_parquet
    from prerl.evaluation.answers import SAMPLE_KEY, SAMPLE_KEY_FIELDS, check_unique_samples

    samples = read_table(arguments.samples, columns=[*SAMPLE_KEY, "text"])
    answers = read_answers(arguments.questions)
    check_unique_samples(samples, arguments.samples)
    questions = list(zip(samples["benchmark"].to_pylist(), samples["question"].to_pylist(), strict=True))
    check_questions(samples["update"].to_pylist(), questions, answers, arguments.samples)

    truths = [answers[question] for question in questions]
    boxed = [last_boxed(text) for text in samples["text"].to_pylist()]
    hendrycks = [box is not None and is_equiv(box, truth[0]) for box, truth in zip(boxed, truths, strict=True)]
    pairs = [(box, *truth) for box, truth in zip(boxed, truths, strict=True)]
    verdicts = grade_math_verify(pairs, arguments.settings["processes"], arguments.settings["time_limit_s"])
    fields = [
        *SAMPLE_KEY_FIELDS,
        pa.field("hendrycks", pa.bool_()),
        pa.field("math_verify", pa.string()),
        pa.field("boxed", pa.string()),
    ]
    columns = [*(samples[name].to_pylist() for name in SAMPLE_KEY), hendrycks, verdicts, boxed]
    write_parquet(arguments.grades, pa.table(columns, schema=pa.schema(fields)))
    print(
        f"{len(verdicts)} answers; right: {sum(hendrycks)} (Hendrycks), {verdicts.count('right')} (math-verify); "
        f"{verdicts.count('unscorable')} unscorable, {boxed.count(None)} without a box"
    )


if __name__ == "__main__":
    run_main(main)
