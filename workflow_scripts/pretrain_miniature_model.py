"""Make the miniature's base model: corpus, tokenizer, a small Qwen3 (rule pretrain_miniature_model)."""

from __future__ import annotations

from functools import partial

from prerl.config.base_models import CorpusSettings
from prerl.config.key import from_dict
from prerl.core.errors import run_main
from prerl.data.corpus import corpus_document
from prerl.data.miniature import build_tokenizer, make_base_model, read_arguments


def main() -> None:
    settings, manifest = read_arguments(__doc__)
    corpus = from_dict(CorpusSettings, settings["corpus"])
    make_base_model(settings, manifest, build_tokenizer(), partial(corpus_document, settings=corpus))


if __name__ == "__main__":
    run_main(main)
