"""Fetch one file of problems, pinned by sha256. The engine for real data comes later: ends with a "needs" error."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Name what is missing; write nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON with url, sha256")
    parser.add_argument("--file", type=Path, required=True, help="the file as its source serves it")
    arguments = parser.parse_args()
    data = arguments.settings
    raise SystemExit(
        "download_data needs the downloader of real problems, which this version does not have yet: "
        f"{arguments.file} would be {data['url']} (sha256 {data['sha256']}). "
        "Use `--config scale=miniature`, whose problems are generated."
    )


if __name__ == "__main__":
    main()
