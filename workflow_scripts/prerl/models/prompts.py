"""Prompts as token ids: chat template, truncation, and the prefix token that takes the prompt's place in log P(y).

Token ids are made here once; they are never decoded and re-encoded.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from prerl.config.prompt import PromptSettings
from prerl.core.errors import UserError

AUTO = "auto"
"""As prompt.prefix_token: the first token of a prompt."""


DATE = {"strftime_now": lambda form: "26 Jul 2024"}
"""For chat templates that ask for today's date: prompts are the same on every day. This one is Llama 3's default."""


class PromptError(UserError):
    """Prompt settings that do not fit the model; the message names the key, the value and the remedy."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a transformers folder. Raises PromptError if the folder has none or that has no EOS token."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise PromptError(f"{folder} holds no tokenizer (tokenizer.json): fetch or save the model folder again, whole")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise PromptError(f"{folder}: the tokenizer has no EOS token; set `eos_token` in its tokenizer_config.json")
    return tokenizer


def end_token_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end a response, the tokenizer's EOS first, then the others of the folder's generation_config.json.

    Qwen3 names `<|im_end|>` and `<|endoftext|>` there. The official code ends, and masks, responses at both: its vLLM
    adds the ids of generation_config to the stop tokens, and verl's response mask is cut by the same list.
    """
    file = folder / "generation_config.json"
    named = json.loads(file.read_bytes()).get("eos_token_id") if file.is_file() else None
    others = named if isinstance(named, list) else [] if named is None else [named]
    return list(dict.fromkeys([tokenizer.eos_token_id, *others]))


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    problem: str,
    settings: PromptSettings,
    answer: str | None = None,
    opened: bool = True,
) -> str:
    """One problem by the chat template, with its answer if there is one; `opened`: a new assistant turn follows."""
    turns = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    for example in settings.examples or ():
        turns.append({"role": "user", "content": example.problem})
        turns.append({"role": "assistant", "content": example.answer})
    turns.append({"role": "user", "content": problem})
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    return tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=opened, enable_thinking=settings.enable_thinking, **DATE
    )


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, problem: str, settings: PromptSettings) -> list[int]:
    """The whole prompt of one problem."""
    return tokenizer(chat_text(tokenizer, problem, settings), add_special_tokens=False)["input_ids"]


def prefix_token_id(tokenizer: PreTrainedTokenizerBase, settings: PromptSettings) -> int:
    """Id of the prefix token, checked to be one known token that survives a round trip.

    `auto`: the first token of every prompt by the chat template, BOS or, as Qwen's, `<|im_start|>`. Raises PromptError
    if that is no special token, or if the tokenizer does not hold prompt.prefix_token as one token.
    """
    named, first = settings.prefix_token, _prompt_ids(tokenizer, "", settings)[0]
    text = tokenizer.convert_ids_to_tokens(first)
    if named == AUTO:
        if first not in tokenizer.added_tokens_decoder:
            raise PromptError(
                f"prompt.prefix_token: auto, but the chat template begins with {text!r}, no special token; name the "
                "token that P(y) is conditioned on"
            )
        return first
    ids = tokenizer.encode(named, add_special_tokens=False)
    if len(ids) != 1 or tokenizer.convert_ids_to_tokens(ids[0]) != named:
        raise PromptError(
            f"prompt.prefix_token {named!r} is {ids} in this tokenizer, not one token; name a special token of the "
            f"model, such as '<|im_start|>' for Qwen3, or write auto, here {text!r}"
        )
    return ids[0]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, problems: list[str], settings: PromptSettings
) -> list[list[int]]:
    """Prompt token ids of each problem by the chat template: system turn, examples, user turn, opened assistant turn.

    With Qwen3's template and `enable_thinking=False` the prompt ends in an empty think block, which so belongs to x.
    Truncation keeps the right end, and the job's log says how many prompts it cut. See check_lengths for limits that
    leave nothing of a problem.
    """
    limit = settings.max_prompt_tokens
    prompts = [_prompt_ids(tokenizer, problem, settings) for problem in problems]
    cut = sum(len(prompt) > limit for prompt in prompts)
    if cut:
        print(f"{cut} of {len(problems)} prompts lose their left end: prompt.max_prompt_tokens is {limit}", flush=True)
    return [prompt[-limit:] for prompt in prompts]


def check_lengths(
    tokenizer: PreTrainedTokenizerBase, held_tokens: int, settings: PromptSettings, max_new_tokens: int
) -> None:
    """Raises PromptError if a prompt could hold nothing of its problem, or prompt and answer more than the model.

    held_tokens: the model's max_position_embeddings. Said before anything is sampled.
    """
    limit = settings.max_prompt_tokens
    fixed = len(_prompt_ids(tokenizer, "", settings))
    if limit <= fixed:
        raise PromptError(
            f"prompt.max_prompt_tokens: {limit} leaves a problem no room, system message and chat template alone take "
            f"{fixed} tokens; raise it"
        )
    if limit + max_new_tokens > held_tokens:
        raise PromptError(
            f"prompt.max_prompt_tokens: {limit} and max_new_tokens: {max_new_tokens} are together more than the "
            f"{held_tokens} tokens of the model (max_position_embeddings of its config.json); lower one of them"
        )
