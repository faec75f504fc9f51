"""Block `rollouts`: the sampling engine and how answers are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prerl.config.key import COUNT, POSITIVE, SHARE, Limits, key

TEMPERATURE = Limits(gt=0, remedy="at 0 all answers to a prompt are equal and every advantage is 0; the paper has 1.0")


@dataclass(frozen=True)
class RolloutSettings:
    """The engine, and the answers of a training update."""

    engine: Literal["transformers", "vllm"] = key("sampler: the embedded one or vLLM", source="vLLM (A)")
    temperature: float = key("divides the logits, in sampling and in training", TEMPERATURE, source="1.0 (A)")
    top_p: float = key("nucleus sampling; 1.0 keeps the whole distribution", SHARE, source="1.0 (A)")
    samples_per_prompt: int = key("answers to each prompt of an update, a group", COUNT, source="n_resp_per_prompt (A)")
    max_new_tokens: int = key("longest answer in training", COUNT, unit="tokens", source="max_response_length (A)")
    batch_rows: int = key("most answers decoded together; changes memory only", COUNT)
    kv_cache_gib: float | Literal["auto"] | None = key(
        "vLLM's key-value cache on each GPU, released while the policy trains; `auto`: the rest of "
        "hardware.gpu.memory_gib; changing it reruns nothing",
        POSITIVE,
        optional=True,
        unit="GiB",
    )


@dataclass(frozen=True)
class EngineSettings:
    """What a job receives about the engine. name: "transformers" or "vllm"; kv_cache_gib: see RolloutSettings."""

    name: str
    kv_cache_gib: float | None = None


@dataclass(frozen=True)
class SamplingSettings:
    """How a job draws answers: keys of RolloutSettings; max_new_tokens ends one with finish reason "length"."""

    temperature: float
    top_p: float
    max_new_tokens: int
    batch_rows: int
