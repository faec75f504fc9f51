"""The sampler that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.rollouts.interface import Sampler
from prerl.rollouts.transformers_sampler import TransformersSampler


def build_sampler(
    engine: EngineSettings,
    model: PreTrainedModel | None,
    folder: Path,
    end_ids: list[int],
    sampling: SamplingSettings,
    context_tokens: int,
) -> Sampler:
    """The sampler of a config's `rollouts.engine`.

    model: the trainer's, whose weights the samples come from; None (vllm alone) takes those of `folder`, a transformers
    folder. context_tokens: the longest prompt and response together. sampling: as all calls of `generate` will have it,
    but for max_new_tokens. Raises UserError if vllm is not installed.
    """
    if engine.name == "vllm":
        from prerl.rollouts.vllm_sampler import VllmSampler

        return VllmSampler(engine, model, folder, end_ids, sampling, context_tokens)
    return TransformersSampler(model, end_ids)
