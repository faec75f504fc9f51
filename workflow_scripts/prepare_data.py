"""Bring a downloaded file of problems into the project's columns. The readers come later: ends with a "needs" error."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Name what is missing; write nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON with set, format, questions")
    parser.add_argument("--file", type=Path, required=True, help="the file as its source serves it")
    parser.add_argument("--problems", type=Path, required=True, help="parquet file of problems")
    arguments = parser.parse_args()
    data = arguments.settings
    raise SystemExit(
        f"prepare_data needs the reader of `format: {data['format']}`, which this version does not have yet: "
        f"{arguments.problems} would hold the {data['questions']} problems of {data['set']}. Use "
        "`--config scale=miniature`, whose problems are generated."
    )


if __name__ == "__main__":
    main()
