"""What a base model must be for this pipeline, checked right after its download and where training starts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jinja2 import TemplateError
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from prerl.config.prompt import PromptSettings
from prerl.core.errors import UserError
from prerl.models.prompts import chat_text, check_lengths, load_tokenizer, prefix_token_id

PROBLEMS = ("What is 7919 plus 1?", "Let x = 104729.")  # neither is part of a template
ANSWER = "It is 1299709."


class BaseModelError(UserError):
    """A model that this pipeline cannot train; the message names what does not fit and the remedy."""


def check_base_model(folder: Path, prompt: PromptSettings, max_new_tokens: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a transformers folder, after all checks; no weights are read.

    The class is a causal language model of transformers itself; the tokenizer's ids are rows of its embedding; the
    prefix token of P(y) is one token; the chat template gives a stable prompt (see _check_prompt); EOS is what it
    closes a turn with, and one of those in generation_config.json; prompt and answer fit into the positions.
    Raises BaseModelError, PromptError.
    """
    tokenizer = load_tokenizer(folder)
    config = _load_config(folder)
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise BaseModelError(
            f"{folder}: the tokenizer's ids go up to {largest}, the model has {config.vocab_size} (vocab_size in "
            "config.json), so the two are not of one model: name another repository or revision in models"
        )
    prefix_token_id(tokenizer, prompt.prefix_token)
    _check_prompt(folder, tokenizer, prompt)
    _check_eos(folder, tokenizer, prompt)
    check_lengths(tokenizer, config.max_position_embeddings, prompt, max_new_tokens)
    return tokenizer


def _load_config(folder: Path) -> PretrainedConfig:
    whole = "fetch or make the model folder again, whole"
    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{folder / 'config.json'} is missing: {whole}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except OSError as error:
        raise BaseModelError(f"{folder} cannot be loaded ({str(error).splitlines()[0]}): {whole}") from None
    except ValueError as error:
        raise BaseModelError(
            f"{folder / 'config.json'}: transformers has no such model ({str(error).splitlines()[0]}), and code that "
            "comes with a model is never run: name a model of a class that transformers itself has"
        ) from None
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BaseModelError(
            f"{folder / 'config.json'}: a {config.model_type} is no causal language model: name one in models"
        )
    return config.get_text_config()


def _check_prompt(folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: PromptSettings) -> None:
    """The prompt is the same text around every problem on every day, with the system message, its turn left open."""
    template = tokenizer.chat_template
    if template is None:
        raise BaseModelError(
            f"{folder} has no chat template: name a model that was trained for conversations in models"
        )
    if "strftime_now" in str(template):
        raise BaseModelError(f"{folder}: the chat template writes today's date into every prompt: name another model")
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


def _check_eos(folder: Path, tokenizer: PreTrainedTokenizerBase, prompt: PromptSettings) -> None:
    """The tokenizer's EOS closes the assistant's turn, so that it is the token a trained answer ends with."""
    eos = tokenizer.eos_token
    closing = chat_text(tokenizer, PROBLEMS[0], prompt, ANSWER, opened=False).partition(ANSWER)[2].strip()
    if not closing.startswith(eos):
        raise BaseModelError(
            f"{folder}: the tokenizer's EOS is {eos!r} and the chat template closes an answer with {closing!r}: no "
            "answer would end; name a model whose eos_token (tokenizer_config.json) closes its turns, for many the "
            "instruction-tuned one"
        )
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    ids = json.loads(file.read_bytes()).get("eos_token_id")
    ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if ids and tokenizer.eos_token_id not in ids:
        raise BaseModelError(
            f"{file}: generation ends at {tokenizer.convert_ids_to_tokens(ids)}, not at the tokenizer's EOS {eos!r}: "
            "the files are not of one model: name another repository or revision in models"
        )
