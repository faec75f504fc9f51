"""Block `prompt`: how a problem becomes a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from prerl.config.key import COUNT, TEXT, key


@dataclass(frozen=True)
class Example:
    """A problem with its answer, shown to the model as an earlier turn of the conversation."""

    problem: str = key("what the user asks", TEXT)
    answer: str = key("what the assistant answers", TEXT)


@dataclass(frozen=True)
class PromptSettings:
    """How a problem becomes a prompt, and what P(y) is conditioned on."""

    system: str | None = key("system message, or null for no system turn", source="rl_dataset.py 280-284 (A)")
    enable_thinking: bool = key(
        "passed to the chat template; false: Qwen3's prompt ends in an empty think block",
        source="prompt_template_type=qwen3_no_thinking (A)",
    )
    prefix_token: str = key(
        "the token that P(y) is conditioned on, one of the tokenizer; auto: the one that each prompt begins with (BOS; "
        "`<|im_start|>` for Qwen)",
        TEXT,
        source="ray_trainer.py 1180-1227 (A)",
    )
    examples: list[Example] | None = key(
        "turns before each problem, for a model that needs to be shown; not in the gradient alignment", optional=True
    )
    max_prompt_tokens: int = key(
        "longer prompts lose tokens on the left",
        COUNT,
        unit="tokens",
        source="max_prompt_length, truncation='left' (A)",
    )
