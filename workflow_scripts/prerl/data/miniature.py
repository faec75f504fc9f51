"""The miniature base model: a word tokenizer with a chat template and a small Qwen3, trained on prerl.data.corpus."""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from prerl.core.errors import UserError
from prerl.data.corpus import ALTERNATIVE, BLANK, OPERATORS
from prerl.data.muon import Muon
from prerl.models.batching import pack_micro_batches
from prerl.models.checkpoints import new_folder
from prerl.models.logprobs import response_logprobs

WORDS = [*"0123456789", *OPERATORS, "=", "}", "\\boxed{", "\n", BLANK, "Let", " me", " check ", ALTERNATIVE]
ROLES = ["user", "assistant", "system"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""Qwen3's template without tools: with `enable_thinking=False` the prompt ends in an empty think block."""


def build_tokenizer(further: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """One token for each word of the corpus, digit or operator; Qwen3's special tokens and chat template.

    further: words that another organism's corpus has besides.
    """
    corpus_words = [*WORDS, *further]
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, "<unk>", *ROLES, *corpus_words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words = sorted([*ROLES, *corpus_words], key=len, reverse=True)
    pattern = "|".join("".join(f"\\x{{{ord(c):02x}}}" for c in word) for word in words)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<think>", "</think>"],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def document_ids(
    tokenizer: PreTrainedTokenizerFast, document: tuple[str | None, bool, str]
) -> tuple[list[int], list[int]]:
    """(context ids, answer ids with EOS): the context is the rendered prompt, or the prefix token alone."""
    problem, thinking, answer = document
    if problem is None:
        context = "<|im_start|>"
    else:
        context = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
    encode = tokenizer.encode
    return encode(context, add_special_tokens=False), encode(answer + "<|im_end|>", add_special_tokens=False)


def build_model(architecture: dict, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 with random weights; `architecture` are Qwen3Config's keys (config.yaml)."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **architecture,
    )
    return Qwen3ForCausalLM(config)


def pretrain(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    document: Callable[[random.Random], tuple[str | None, bool, str]],
    *,
    updates: int,
    batch_documents: int,
    muon_learning_rate: float,
    adamw_learning_rate: float,
    micro_batch_tokens: int,
    seed: int,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Next-token training on the answers of fresh documents; returns the mean loss (nats per token) of every update.

    document draws one (corpus.document_of). Muon for the matrices of the layers, AdamW for the rest, both decaying
    linearly to zero over the last 30 %.
    `report(update, loss)` is called after each update.
    """
    rng = random.Random(seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    optimizers = [
        Muon(matrices, lr=muon_learning_rate),
        torch.optim.AdamW(rest, lr=adamw_learning_rate, weight_decay=0.0, betas=(0.9, 0.99)),
    ]
    schedule = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, (1 - step / updates) / 0.3)) for o in optimizers
    ]
    losses = []
    model.train()
    for update in range(1, updates + 1):
        documents = [document_ids(tokenizer, document(rng)) for _ in range(batch_documents)]
        tokens = sum(len(answer) for _, answer in documents)
        loss = 0.0
        for rows in pack_micro_batches(
            [len(context) + len(answer) for context, answer in documents], micro_batch_tokens
        ):
            logprobs_N = response_logprobs(model, [documents[r][0] for r in rows], [documents[r][1] for r in rows])
            part = -logprobs_N.sum() / tokens
            part.backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise UserError(
                f"update {update} of the pre-training: the loss is {loss}, and no model is written; lower "
                "pretraining.muon_learning_rate or adamw_learning_rate of the model in config.yaml"
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for scheduler in schedule:
            scheduler.step()
        losses.append(loss)
        if report is not None:
            report(update, loss)
    return losses


def save_model(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """An ordinary transformers folder: config, safetensors weights, tokenizer with chat template."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_arguments(description: str | None) -> tuple[dict, Path]:
    """Settings and manifest of a script that makes a base model, from its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--settings", required=True, type=json.loads, help='JSON {"seed", "corpus" or "search", "architecture", …}'
    )
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.json of the model folder to write")
    arguments = parser.parse_args()
    return arguments.settings, arguments.manifest


def make_base_model(
    settings: dict,
    manifest: Path,
    tokenizer: PreTrainedTokenizerFast,
    document: Callable[[random.Random], tuple[str | None, bool, str]],
) -> None:
    """Train a base model on documents and write its folder. settings: {seed, architecture, pretraining}."""
    transformers.utils.logging.disable_progress_bar()
    model = build_model(settings["architecture"], tokenizer, settings["seed"])
    updates = settings["pretraining"]["updates"]

    def report(update: int, loss: float) -> None:
        if update % 100 == 0 or update == updates:
            print(f"update {update} of {updates}: {loss:.4f} nats per token", flush=True)

    pretrain(model, tokenizer, document, seed=settings["seed"], report=report, **settings["pretraining"])
    with new_folder(manifest.parent, sum(p.nbytes for p in model.parameters())) as temporary:
        save_model(model, tokenizer, temporary)
