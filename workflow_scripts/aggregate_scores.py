"""Aggregate all evaluations and training histories of one model: tables questions, scores, contrasts and curves.

The settings name the input files:
{"bootstrap": {"resamples", "confidence", "seed"}, "benchmarks": […], "main_benchmarks": […],
"validation_benchmarks": […], "seeds": […], "samples_per_question": n,
"methods": {name: {"parent", "first_update", "last_update"}}, "parts": the same of runs that these continue,
 "evaluations": [{"method", "seed", "updates", "grades", "thoughts"}],
 "histories": [{"method", "seed", "metrics", "validation"}]}.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import write_parquet
from prerl.evaluation.aggregation import collect_questions, join_curves, score_questions
from prerl.evaluation.contrasts import contrast_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON, see above")
    parser.add_argument("--questions", required=True, type=Path, help="output: a row per evaluated question")
    parser.add_argument("--scores", required=True, type=Path, help="output: every metric with its bootstrap interval")
    parser.add_argument("--contrasts", required=True, type=Path, help="output: paired differences of accuracy")
    parser.add_argument("--curves", required=True, type=Path, help="output: training and validation by update")
    arguments = parser.parse_args()
    settings = arguments.settings
    questions = collect_questions(settings["evaluations"], settings["benchmarks"], settings["samples_per_question"])
    scores = score_questions(questions, settings)
    curves = join_curves(settings | {"methods": settings["methods"] | settings["parts"]})
    tables = {
        arguments.questions: questions,
        arguments.scores: scores,
        arguments.contrasts: contrast_table(questions, settings),
        arguments.curves: curves[curves["method"].isin(settings["methods"])],
    }
    for path, frame in tables.items():
        write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))
        print(f"{len(frame)} rows -> {path}")


if __name__ == "__main__":
    run_main(main)
