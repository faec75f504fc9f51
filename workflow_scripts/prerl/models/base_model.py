"""What a base model must be for this pipeline, checked before its weights are fetched and where training starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from prerl.config.prompt import PromptSettings
from prerl.config.shapes import read_shape
from prerl.core.errors import UserError
from prerl.models.prompts import chat_text, check_lengths, end_token_ids, load_tokenizer, prefix_token_id

PROBLEMS = ("What is 7919 plus 1?", "Let x = 104729.")  # neither is part of a template
ANSWER = "It is 1299709."
UNKNOWN_OPTIONS = (
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "use_bidirectional_attention",
    "quantization_config",
)
"""Keys of config.json that change log-probs in a way that is not known here, or leave no weights to train."""


class BaseModelError(UserError):
    """A model that this pipeline cannot train; the message names what does not fit and the remedy."""


def check_base_model(folder: Path, prompt: PromptSettings, max_new_tokens: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a transformers folder, after all checks; no weights are read.

    The model is one that load_config knows; the tokenizer's ids are rows of its embedding; the prefix token of P(y) is
    one token; the chat template gives a stable prompt (see _check_prompt); it closes a turn with a token that ends an
    answer; prompt and answer fit into the positions. Raises BaseModelError, PromptError.
    """
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise BaseModelError(
            f"{folder}: the tokenizer's ids go up to {largest}, the model has {config.vocab_size} (vocab_size in "
            "config.json), so the two are not of one model: name another repository or revision in models"
        )
    _check_prompt(folder, tokenizer, prompt)
    prefix_token_id(tokenizer, prompt)
    _check_end(folder, tokenizer, prompt)
    check_lengths(tokenizer, _positions(config), prompt, max_new_tokens)
    return tokenizer


def load_config(folder: Path) -> PretrainedConfig:
    """config.json of a model that can be trained here, complete with transformers' defaults.

    Its class is one of transformers' own that prerl.config.shapes knows, with no option that packing, the chunked
    log-softmax or the plan of memory do not know. Raises BaseModelError.
    """
    file, whole = folder / "config.json", "fetch or make the model folder again, whole"
    if not file.is_file():
        raise BaseModelError(f"{file} is missing: {whole}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        shape = read_shape(config.to_dict())
    except OSError as error:
        raise BaseModelError(f"{folder} cannot be loaded ({str(error).splitlines()[0]}): {whole}") from None
    except UserError as error:
        raise BaseModelError(f"{file}: {error}") from None
    except ValueError as error:
        raise BaseModelError(
            f"{file}: transformers has no such model ({str(error).splitlines()[0]}), and code that comes with a model "
            "is never run: name a model of a class that transformers itself has"
        ) from None
    for option in UNKNOWN_OPTIONS:
        if vars(config).get(option):
            raise BaseModelError(
                f"{file}: {option} is {vars(config)[option]}, which {config.model_type} is not supported with: name "
                "another model"
            )
    with torch.device("meta"):
        parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    if parameters != shape.parameters:
        raise BaseModelError(
            f"{file}: this {config.model_type} has {parameters:,} parameters, the plan of memory {shape.parameters:,}: "
            "it has an option that is not supported here; name another model"
        )
    return config


def _positions(config: PretrainedConfig) -> int:
    """Longest row. Beyond its first range LongRoPE turns all positions of a micro-batch by the longest row in it."""
    rope = config.rope_parameters
    longrope = rope.get("rope_type") == "longrope"
    return rope["original_max_position_embeddings"] if longrope else config.max_position_embeddings


def _check_prompt(folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: PromptSettings) -> None:
    """The prompt is the same text around every problem, with the system message, its turn left open."""
    template = tokenizer.chat_template
    if template is None:
        raise BaseModelError(
            f"{folder} has no chat template: name a model that was trained for conversations in models"
        )
    first, second = PROBLEMS
    try:
        text, other = (chat_text(tokenizer, problem, prompt) for problem in PROBLEMS)
        toggled = chat_text(tokenizer, first, replace(prompt, enable_thinking=not prompt.enable_thinking))
        closed = chat_text(tokenizer, first, prompt, opened=False)
        answered = chat_text(tokenizer, first, prompt, ANSWER, opened=False)
    except TemplateError as error:
        raise BaseModelError(
            f"{folder}: the chat template refuses the prompt ({error}); if it takes no system message, set "
            "prompt.system: null"
        ) from None
    if text.count(first) != 1 or text.replace(first, second) != other:
        raise BaseModelError(f"{folder}: the chat template does not give the same text around each problem")
    if prompt.system is not None and prompt.system.strip() not in text:
        raise BaseModelError(f"{folder}: the chat template drops the system message: set prompt.system: null")
    thinks = text.rstrip().endswith("<think>")
    if thinks and not prompt.enable_thinking:
        raise BaseModelError(
            f"{folder}: the chat template opens a think block although prompt.enable_thinking is false: set it to true "
            "or name a model that can answer without thinking"
        )
    if prompt.enable_thinking and text == toggled and not thinks:
        raise BaseModelError(f"{folder}: the chat template knows no thinking: set prompt.enable_thinking: false")
    opening = answered.partition(ANSWER)[0]  # may hold a think block that the prompt leaves out, or the other way round
    continued = text.startswith(opening) or opening.startswith(text)
    if not continued or (text == closed and text.strip() != opening.strip()):
        raise BaseModelError(
            f"{folder}: the chat template ends a prompt in {text[-40:]!r}, an answer comes after {opening[-40:]!r}, "
            "so it does not open the assistant's turn: name another model"
        )


def _check_end(folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: PromptSettings) -> None:
    """What closes the assistant's turn is one of the tokens that end an answer, and so the last of a trained one."""
    eos, ids = tokenizer.eos_token, end_token_ids(folder, tokenizer)
    ends = tokenizer.convert_ids_to_tokens(ids)
    closing = chat_text(tokenizer, PROBLEMS[0], prompt, ANSWER, opened=False).partition(ANSWER)[2].strip()
    if not closing.startswith(tuple(ends)):
        raise BaseModelError(
            f"{folder}: answers end at {', '.join(map(repr, ends))} (eos_token of tokenizer_config.json, eos_token_id "
            f"of generation_config.json) and the chat template closes one with {closing!r}: no answer would end; name "
            "a model that is trained for conversations, for many the instruction-tuned one"
        )
    file = folder / "generation_config.json"
    named = json.loads(file.read_bytes()).get("eos_token_id") if file.is_file() else None
    if named not in (None, []) and ids[0] not in (named if isinstance(named, list) else [named]):
        raise BaseModelError(
            f"{file}: generation ends at {ends[1:]}, not at the tokenizer's EOS {eos!r}: the files are not of one "
            "model: name another repository or revision in models"
        )
