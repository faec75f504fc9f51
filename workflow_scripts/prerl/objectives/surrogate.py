"""PPO's clipped surrogate, the loss of a token. Official: verl/trainer/ppo/core_algos.py compute_policy_loss.

Shape: N response tokens.
"""

from __future__ import annotations

import torch


def clipped_surrogate(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> torch.Tensor:
    """PPO's clipped surrogate as a loss per token, [N]: max(-A r, -A clip(r, 1 - low, 1 + high)), r = P / P_old.

    On policy r = 1 and its gradient is -A grad log P; clipping is inert then. With A = 2, r = 1.5 and high = 0.2: -2.4.
    """
    ratio_N = (logprobs_N - old_logprobs_N).exp()
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(-advantages_N * ratio_N, -advantages_N * clipped_N)


def clip_fraction(
    logprobs_N: torch.Tensor,
    old_logprobs_N: torch.Tensor,
    advantages_N: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> float:
    """Share of tokens whose clipped branch is the larger loss."""
    ratio_N = (logprobs_N - old_logprobs_N).exp()
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high)
    return (-advantages_N * clipped_N > -advantages_N * ratio_N).float().mean().item()
