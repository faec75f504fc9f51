"""Collect a model's out-of-distribution answers, from our benchmarks and harness tasks, and compare the methods.

Settings: {"bootstrap": {"resamples", "confidence", "seed"}, "seeds": […], "methods": {name: {"updates"}},
 "ood_benchmarks": […], "tasks": {name: questions}, "runs": [{"method", "seed", "update", "answers"}]}.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import read_table, write_parquet
from prerl.evaluation.ood_scores import collect, contrasts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON, see above")
    parser.add_argument("--questions", required=True, type=Path, help="the model's evaluated questions")
    parser.add_argument("--answers", required=True, type=Path, help="output: a row per out-of-distribution question")
    parser.add_argument("--contrasts", required=True, type=Path, help="output: paired differences of accuracy")
    arguments = parser.parse_args()
    answers = collect(read_table(arguments.questions).to_pandas(), arguments.settings)
    differences = contrasts(answers, arguments.settings)
    for path, frame in ((arguments.answers, answers), (arguments.contrasts, differences)):
        write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))
        print(f"{len(frame)} rows -> {path}")


if __name__ == "__main__":
    run_main(main)
