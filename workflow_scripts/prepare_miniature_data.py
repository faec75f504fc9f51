"""The training problems or one benchmark of the miniature (rule prepare_miniature_data)."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import write_parquet
from prerl.data.corpus import problem_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help='JSON {"seed", "set", "operations", "questions"}')
    parser.add_argument("--problems", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    name = settings["set"]
    rng = random.Random(f"{settings['seed']}/{name}")
    problems = problem_set(rng, settings["operations"], settings["questions"], held_out=name != "train")
    rows = [
        {
            "id": f"{name}-{number:04d}",
            "problem": problem.text,
            "answer": str(problem.answer),
            "level": str(len(problem.operators)),
            "source": "generated",
        }
        for number, problem in enumerate(problems)
    ]
    write_parquet(arguments.problems, pa.Table.from_pylist(rows))


if __name__ == "__main__":
    run_main(main)
