"""Answers of one model's policies as files that the page's browser loads one by one.

Writes {output}/{benchmark}.js, an index, and {output}/{benchmark}/{number}.js, a question each: the first answers to it
by each policy of the seeds that `page.seeds` asks for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from tokenizers import Tokenizer

from prerl.core.errors import run_main
from prerl.core.files import read_problems, read_table
from prerl.evaluation.answers import SAMPLE_KEY
from prerl.publishing.browser import AnswerWriter, outcome_of, write_questions

KEY = list(SAMPLE_KEY)


def answers_of_run(run: dict, answers: int) -> dict[tuple[str, str], list[tuple[str, dict, str]]]:
    """(benchmark, question) -> (policy, row, outcome) of each answer shown of one method and seed.

    run: {method, seed, samples, grades, logprobs (null: none of its answers has log P(y))}. Raises ValueError if an
    answer has no grade.
    """
    columns = [*KEY, "token_ids", "logprobs", "finish_reason"]
    # by row groups: at paper scale all answers of a run are many GB, and these few
    samples = ds.dataset(run["samples"]).to_table(columns, filter=ds.field("sample") < answers).to_pandas()
    grades = read_table(Path(run["grades"]), columns=[*KEY, "hendrycks", "boxed"]).to_pandas()
    both = samples.merge(grades, on=KEY, how="left", validate="one_to_one")
    if both["hendrycks"].isna().any():
        raise ValueError(f"{run['grades']} lacks answers of {run['samples']}: delete it and run the same command again")
    both["logp_y"] = None
    if run["logprobs"]:
        alone = read_table(Path(run["logprobs"])).to_pandas()
        both = both.drop(columns="logp_y").merge(alone, on=KEY, how="left", validate="one_to_one")
    found: dict[tuple[str, str], list] = {}
    for row in both.to_dict("records"):
        boxed = row["boxed"] if isinstance(row["boxed"], str) else None
        shown = {"sample": row["sample"], "token_ids": row["token_ids"], "boxed": boxed}
        shown["logprobs"] = {"yx": row["logprobs"]}
        if isinstance(row["logp_y"], np.ndarray):
            shown["logprobs"]["y"] = row["logp_y"]
        policy = f"{run['method']}@{row['update']}/{run['seed']}"
        outcome = outcome_of(bool(row["hendrycks"]), row["finish_reason"])
        found.setdefault((row["benchmark"], row["question"]), []).append((policy, shown, outcome))
    return found


def policies_of(settings: dict) -> list[dict]:
    """id, label, method and update of each policy, in the order of the page. `main`: shown until the reader chooses."""
    several = len({run["seed"] for run in settings["runs"]}) > 1
    found = []
    for run in settings["runs"]:
        for update in run["updates"]:
            label = run["label"] + (f" @{update}" if update else "") + (f", seed {run['seed']}" if several else "")
            main = update == run["main"] and run["seed"] == settings["runs"][0]["seed"]
            policy = {"id": f"{run['method']}@{update}/{run['seed']}", "label": label, "main": main}
            found.append(policy | {"seed": run["seed"]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, type=json.loads, help='JSON {"model", "answers", "runs"}')
    parser.add_argument("--policy", required=True, type=Path, help="manifest of a model with the samples' tokenizer")
    parser.add_argument("--questions", required=True, type=Path, nargs="+", help="{benchmark}.parquet")
    parser.add_argument("--output", required=True, type=Path, help="folder to write")
    arguments = parser.parse_args()
    settings = arguments.settings
    writer = AnswerWriter.of(Tokenizer.from_file(str(arguments.policy.parent / "tokenizer.json")))
    parts = [answers_of_run(run, settings["answers"]) for run in settings["runs"]]
    policies = policies_of(settings)
    order = {policy["id"]: index for index, policy in enumerate(policies)}
    for path in arguments.questions:

        def answers(question: str, benchmark: str = path.stem) -> list[dict]:
            rows = [row for part in parts for row in part.get((benchmark, question), [])]
            rows.sort(key=lambda row: (order[row[0]], row[1]["sample"]))
            return [writer.answer(*row) for row in rows]

        problems = read_problems(path).to_pylist()
        count = write_questions(arguments.output, settings["model"], path.stem, problems, answers, policies)
        print(f"{path.stem}: {count} answers to {len(problems)} questions")


if __name__ == "__main__":
    run_main(main)
