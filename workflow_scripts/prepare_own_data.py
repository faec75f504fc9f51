"""Convert problems of the user's own to the project's columns, and write what was read (rule prepare_own_data)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.core.files import write_json, write_parquet
from prerl.data.own import OwnSet, read_own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON of prerl.data.own.OwnSet")
    parser.add_argument("--path", type=Path, required=True, help="file, or folder of the datasets library")
    parser.add_argument("--problems", type=Path, required=True, help="parquet to write")
    parser.add_argument("--manifest", type=Path, required=True, help="JSON to write: path, sha256, rows, questions")
    arguments = parser.parse_args()
    problems, manifest = read_own(arguments.path, OwnSet(**arguments.settings))
    write_parquet(arguments.problems, problems)
    write_json(arguments.manifest, manifest)
    print(f"{manifest['questions']} problems of {manifest['rows']} rows, sha256 {manifest['sha256']}")


if __name__ == "__main__":
    run_main(main)
