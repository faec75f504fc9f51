"""Download one problem file, pinned by its sha256, from the mirror or its public address (rule download_data)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.data.downloads import DownloadError, Patience, Source, download


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, help="JSON with url, name, mirror")
    parser.add_argument("--sha256", required=True, help="expected sha256 of the file")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps a partial file for the next run")
    parser.add_argument("--file", type=Path, required=True, help="the file as its source serves it")
    parser.add_argument("--timeout-s", type=float, default=Patience.timeout_s, help="to connect, and between reads")
    parser.add_argument("--backoff-s", type=float, default=Patience.backoff_s, help="before the second attempt")
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.state / f"{arguments.file.name}.{arguments.sha256[:16]}"
    patience = Patience(timeout_s=arguments.timeout_s, backoff_s=arguments.backoff_s)
    try:
        download(Source(**arguments.source), arguments.sha256, arguments.file, partial, patience)
    except OSError as error:
        raise DownloadError(
            f"{arguments.file}: {error}; make room on the disk or correct the permissions, and rerun"
        ) from None


if __name__ == "__main__":
    run_main(main)
