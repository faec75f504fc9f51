"""Download a model of the hub at its revision, check it and publish it as a base model (rule download_model)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.shapes import check_architecture
from prerl.core.errors import run_main
from prerl.data.downloads import DownloadError, Patience
from prerl.data.hub import HubModel, download_model
from prerl.models.base_model import check_base_model, load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revision", required=True, help="40 hex digits of a commit")
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="JSON: model, repository, architecture, prompt, max_new_tokens",
    )
    parser.add_argument("--state", type=Path, required=True, help="keeps partial downloads for the next run")
    parser.add_argument("--manifest", type=Path, required=True, help="written last, beside the model's files")
    parser.add_argument("--timeout-s", type=float, default=Patience.timeout_s, help="to connect, and between reads")
    parser.add_argument("--backoff-s", type=float, default=Patience.backoff_s, help="before the second attempt")
    arguments = parser.parse_args()
    settings = arguments.settings

    def check(folder: Path) -> None:
        check_architecture(settings["model"], settings["architecture"], load_config(folder).to_dict())
        check_base_model(folder, from_dict(PromptSettings, settings["prompt"]), settings["max_new_tokens"])

    try:
        download_model(
            HubModel(settings["repository"], arguments.revision),
            arguments.manifest.parent,
            arguments.state,
            Patience(timeout_s=arguments.timeout_s, backoff_s=arguments.backoff_s),
            check,
        )
    except OSError as error:
        raise DownloadError(
            f"{arguments.manifest.parent}: {error}; make room on the disk or correct the permissions, and rerun"
        ) from None


if __name__ == "__main__":
    run_main(main)
