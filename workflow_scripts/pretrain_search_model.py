"""Make the second organism's base model: corpus, tokenizer, a small Qwen3 (rule pretrain_search_model)."""

from __future__ import annotations

from functools import partial

from prerl.config.base_models import SearchSettings
from prerl.config.key import from_dict
from prerl.core.errors import run_main
from prerl.data.miniature import build_tokenizer, make_base_model, read_arguments
from prerl.data.search import UNKNOWN, search_document


def main() -> None:
    settings, manifest = read_arguments(__doc__)
    search = from_dict(SearchSettings, settings["search"])
    make_base_model(settings, manifest, build_tokenizer([UNKNOWN]), partial(search_document, settings=search))


if __name__ == "__main__":
    run_main(main)
