"""Truncated importance sampling: what the sampler's rounding changed is weighed out, token by token.

Off by default (training.importance_cap: null). An engine of another precision or with other kernels samples from
another distribution than the trainer's; the weight P_trainer / P_sampler of a token corrects for it, cut at a cap that
bounds its variance. Source: Yao et al. 2025, fengyao.notion.site/off-policy-rl; verl `tis_imp_ratio_cap`, TRL
`vllm_importance_sampling_cap`.
"""

from __future__ import annotations

import torch

from prerl.objectives.advantages import per_token


def importance_weights(
    trainer: list[torch.Tensor], sampler: list[torch.Tensor], cap: float
) -> tuple[list[torch.Tensor], dict[str, float]]:
    """min(exp(trainer - sampler), cap) of every token, and their mean and the share that the cap cut.

    trainer, sampler: log P(y|x) of the tokens of each row, nats, float32, the whole distribution at the sampling
    temperature. log 0.5 against log 0.25 at cap 1.5: 1.5, not 2. In the pre-train space too these are log P(y|x), which
    the tokens were drawn from.
    """
    ratios = [(own - other).exp() for own, other in zip(trainer, sampler, strict=True)]
    ratios_N = torch.cat(ratios)
    measured = {
        "importance_mean": ratios_N.clamp(max=cap).mean().item(),
        "importance_cut": (ratios_N > cap).float().mean().item(),
    }
    return [ratio.clamp(max=cap) for ratio in ratios], measured


def weighted_advantages(
    advantages: torch.Tensor | list[torch.Tensor], rows: list[int], weights: list[torch.Tensor], tokens_R: list[int]
) -> list[torch.Tensor]:
    """Advantages by token, times the weights of the tokens of `rows`; other rows keep theirs. tokens_R: of each row.

    On policy the surrogate is linear in the advantage, so this weighs a token's loss.
    """
    result = [per_token(advantages, [row], [tokens]) for row, tokens in enumerate(tokens_R)]
    for row, weight in zip(rows, weights, strict=True):
        result[row] = result[row] * weight
    return result
