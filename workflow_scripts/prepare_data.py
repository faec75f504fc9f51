"""Convert a downloaded problem file to the project's columns (rule prepare_data)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.core.files import write_parquet
from prerl.data.problems import ProblemSet, read_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON of prerl.data.problems.ProblemSet")
    parser.add_argument("--file", type=Path, required=True, help="the file as its source serves it")
    parser.add_argument("--problems", type=Path, required=True, help="parquet to write")
    arguments = parser.parse_args()
    write_parquet(arguments.problems, read_source(arguments.file, ProblemSet(**arguments.settings)))


if __name__ == "__main__":
    run_main(main)
