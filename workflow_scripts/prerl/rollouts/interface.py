"""What the trainer and the evaluation ask of a sampler: responses y ~ P(y|x) with ids, log-probs and finish reasons."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from prerl.config.rollouts import SamplingSettings


@dataclass(frozen=True)
class Rollout:
    """One sampled response. token_ids end with an end token (prompts.end_token_ids) exactly when finish_reason is
    "stop" (else "length"); logprobs are those of the temperature-scaled, untruncated distribution, nats, one each."""

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str


class Sampler(Protocol):
    """What the trainer and the evaluation ask of an engine."""

    def generate(self, prompts: list[list[int]], seeds: list[list[int]], settings: SamplingSettings) -> list[Rollout]:
        """len(seeds[i]) responses of prompt i, in prompt order, then in seed order."""

    def sync_weights(self, model: PreTrainedModel) -> None:
        """Take the trainer's weights after an update."""

    def load(self, folder: Path) -> None:
        """Take the weights of a checkpoint of the same model."""


def sample_seed(*parts: int | str) -> int:
    """64-bit seed of one sample from (run, purpose, update, question, sample): equal parts, equal seed."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def check_requests(prompts: list[list[int]], seeds: list[list[int]]) -> None:
    """Raises ValueError on an empty prompt or where prompts and seeds differ in number."""
    if len(prompts) != len(seeds) or not all(prompts):
        raise ValueError("generate needs one list of seeds for each prompt and prompts of at least one token")
