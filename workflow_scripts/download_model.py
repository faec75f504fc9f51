"""Fetch a model of the hub, pinned by revision. The engine for such models comes later: ends with a "needs" error."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Name what is missing; write nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON with repository, revision")
    parser.add_argument("--manifest", type=Path, required=True, help="written last, beside the model's files")
    arguments = parser.parse_args()
    model = arguments.settings
    raise SystemExit(
        "download_model needs the downloader of hub models, which this version does not have yet: "
        f"{arguments.manifest} would describe {model['repository']} at revision {model['revision']}. "
        "Use `--config scale=miniature`, whose model is generated."
    )


if __name__ == "__main__":
    main()
