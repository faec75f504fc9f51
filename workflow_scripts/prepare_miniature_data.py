"""The training problems or one benchmark that are made here: chains, searches or sums (rule prepare_miniature_data)."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import write_parquet
from prerl.data.corpus import problem_set, random_problem
from prerl.data.search import random_search
from prerl.data.sums import sum_problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings",
        required=True,
        help='JSON {"seed", "set", "questions", "operations" (chains; "search": searches) or "largest" (sums)}',
    )
    parser.add_argument("--problems", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    name, questions = settings["set"], settings["questions"]
    rng, held_out = random.Random(f"{settings['seed']}/{name}"), name != "train"
    if "largest" in settings:
        made = [(text, answer, "2") for text, answer in sum_problems(rng, settings["largest"], questions, held_out)]
    else:
        draw = random_search if settings.get("search") else random_problem
        problems = problem_set(rng, draw, settings["operations"], questions, held_out)
        made = [(problem.text, str(problem.answer), str(len(problem.operators))) for problem in problems]
    rows = [
        {"id": f"{name}-{number:04d}", "problem": text, "answer": answer, "level": level, "source": "generated"}
        for number, (text, answer, level) in enumerate(made)
    ]
    write_parquet(arguments.problems, pa.Table.from_pylist(rows))


if __name__ == "__main__":
    run_main(main)
