"""Make the miniature's base model: corpus, tokenizer, a small Qwen3 (rule pretrain_miniature_model)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import transformers

from prerl.config.base_models import CorpusSettings, SearchSettings
from prerl.config.key import from_dict
from prerl.core.errors import run_main
from prerl.data.miniature import build_model, build_tokenizer, pretrain, save_model
from prerl.models.checkpoints import new_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", required=True, help='JSON {"seed", "corpus" or "search", "architecture", "pretraining"}'
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the model folder to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    transformers.utils.logging.disable_progress_bar()
    searches = "search" in settings
    tokenizer = build_tokenizer(searches)
    model = build_model(settings["architecture"], tokenizer, settings["seed"])
    updates = settings["pretraining"]["updates"]

    def report(update: int, loss: float) -> None:
        if update % 100 == 0 or update == updates:
            print(f"update {update} of {updates}: {loss:.4f} nats per token", flush=True)

    pretrain(
        model,
        tokenizer,
        from_dict(SearchSettings, settings["search"]) if searches else from_dict(CorpusSettings, settings["corpus"]),
        seed=settings["seed"],
        report=report,
        **settings["pretraining"],
    )
    with new_folder(arguments.manifest.parent, sum(p.nbytes for p in model.parameters())) as temporary:
        save_model(model, tokenizer, temporary)


if __name__ == "__main__":
    run_main(main)
