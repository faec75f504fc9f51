"""Training problems and benchmarks of the miniature (rule prepare_miniature_data)."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pyarrow as pa

from prerl.corpus import problem_set
from prerl.files import write_parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help='JSON {"seed", "sets": {name: {"operations", "questions"}}}')
    parser.add_argument(
        "--outputs", nargs="+", type=Path, required=True, help="{set}.parquet, in the order of the sets"
    )
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    rng = random.Random(settings["seed"])
    taken: set[str] = set()
    # benchmarks first: they so stay the same when the training set grows
    sets = sorted(zip(settings["sets"].items(), arguments.outputs, strict=True), key=lambda item: item[0][0] == "train")
    for (name, wanted), path in sets:
        if path.stem != name:
            raise ValueError(
                f"output {path} does not belong to the set {name}: keep the outputs in the order of the sets"
            )
        problems = problem_set(rng, wanted["operations"], wanted["questions"], taken)
        table = pa.Table.from_pylist(
            [
                {
                    "id": f"{name}-{number:04d}",
                    "problem": problem.text,
                    "answer": str(problem.answer),
                    "level": str(len(problem.operators)),
                    "source": "generated",
                }
                for number, problem in enumerate(problems)
            ]
        )
        write_parquet(path, table)


if __name__ == "__main__":
    main()
