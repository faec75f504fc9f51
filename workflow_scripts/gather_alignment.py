"""The tables of the jobs that share a benchmark's rollouts as one each (rule gather_alignment)."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa

from prerl.core.errors import run_main
from prerl.core.files import read_table, write_parquet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", type=Path, required=True, help="parquet files, those of a table in order")
    parser.add_argument("--tables", nargs="+", type=Path, required=True, help="to write, by the names of the parts")
    arguments = parser.parse_args()
    for path in arguments.tables:
        write_parquet(path, pa.concat_tables(read_table(part) for part in arguments.parts if part.name == path.name))


if __name__ == "__main__":
    run_main(main)
