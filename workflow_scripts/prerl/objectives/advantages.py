"""Advantage estimators: GRPO's, RLOO, REINFORCE++, RLVR-Decomposed's PSR/NSR, GAE.

Names are verl's (`algorithm.adv_estimator`). grpo, rloo and psr_nsr give a row one advantage; reinforce_plus_plus and
gae give each token one. A row's reward falls on its last token.

Shapes: R rows (all samples of the batch); T tokens of the longest response. Values by token are lists of R tensors,
[tokens of the row] each, on the CPU; sums run in float64, results are float32.
"""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence

from prerl.objectives.objective import Objective

STD_EPSILON = 1e-6
"""Added to the group's standard deviation (verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage)."""


def group_advantages(rewards_R: torch.Tensor, groups_R: torch.Tensor, divide_by_std: bool) -> torch.Tensor:
    """Reward minus the mean of its group, divided by the group's std (ddof 1) + 1e-6 if asked; float32 [R].

    groups_R: int64 id of each row's prompt, any order. Rewards 1, 0, 0, 0 of one group give 0.75, -0.25, -0.25, -0.25,
    and with std (0.5): 1.5, -0.5, -0.5, -0.5. A group of equal rewards gets exact zeros. Raises ValueError on a
    group of one row and on a reward that is not finite. Source: core_algos.py compute_grpo_outcome_advantage; for the
    pre-train space verl/trainer/ppo/ray_trainer.py 1420-1453.
    """
    if not torch.isfinite(rewards_R).all():
        raise ValueError("a reward is not finite: look at the grader's output of this update")
    _, index_R, sizes_G = groups_R.unique(return_inverse=True, return_counts=True)
    if int(sizes_G.min()) < 2:
        raise ValueError("a group has one sample only, its advantage is undefined: set samples_per_prompt to 2 or more")
    rewards_R = rewards_R.double()
    means_G = torch.zeros(len(sizes_G), dtype=torch.double).index_add_(0, index_R, rewards_R) / sizes_G
    advantages_R = rewards_R - means_G[index_R]
    lowest_G = torch.full_like(means_G, torch.inf).scatter_reduce_(0, index_R, rewards_R, "amin")
    highest_G = torch.full_like(means_G, -torch.inf).scatter_reduce_(0, index_R, rewards_R, "amax")
    advantages_R[(lowest_G == highest_G)[index_R]] = 0.0
    if divide_by_std:
        squares_G = torch.zeros_like(means_G).index_add_(0, index_R, advantages_R.square())
        advantages_R = advantages_R / ((squares_G / (sizes_G - 1)).sqrt() + STD_EPSILON)[index_R]
    return advantages_R.float()


def control_rewards(rewards: str, rewards_R: torch.Tensor, groups_R: torch.Tensor, seed: int) -> torch.Tensor:
    """The rewards that the loss gets, [R]: as graded, "swapped" (1 - reward), or "shuffled" within each group.

    Shuffled leaves each group its number of right rows and takes away which they are. A function of `seed` alone.
    """
    if rewards == "swapped":
        return 1.0 - rewards_R
    if rewards == "shuffled":
        generator = torch.Generator().manual_seed(seed)
        shuffled_R = rewards_R.clone()
        for group in groups_R.unique().tolist():
            rows = (groups_R == group).nonzero()[:, 0]
            shuffled_R[rows] = rewards_R[rows[torch.randperm(len(rows), generator=generator)]]
        return shuffled_R
    return rewards_R


WHITEN_EPSILON = 1e-8
"""Added to the variance of a batch (verl/utils/torch_functional.py masked_whiten)."""


def rloo_advantages(rewards_R: torch.Tensor, groups_R: torch.Tensor) -> torch.Tensor:
    """Reward minus the mean reward of the group's other rows (REINFORCE leave-one-out), float32 [R].

    Rewards 1, 0, 0, 0 of one group give 1, -1/3, -1/3, -1/3. With n rows a group this is n / (n - 1) times the
    advantage of GRPO without std. Raises as group_advantages. Source: arXiv 2402.14740; core_algos.py
    compute_rloo_outcome_advantage.
    """
    _, index_R, sizes_G = groups_R.unique(return_inverse=True, return_counts=True)
    centred_R = group_advantages(rewards_R, groups_R, divide_by_std=False)
    return (centred_R.double() * (sizes_G / (sizes_G - 1.0))[index_R]).float()


def psr_nsr_advantages(rewards_R: torch.Tensor, positive_advantage_weight: float) -> torch.Tensor:
    """`positive_advantage_weight` for a right row, -1 for a wrong one, whatever its group; float32 [R].

    Rewards 1, 0 at weight 0.1 give 0.1, -1. Weight 0.1 is W-REINFORCE, 0 is NSR of RLVR-Decomposed (arXiv 2506.01347),
    whose right rows, with advantage 0, stay in the token mean. Source: that paper's code,
    github.com/TianHongZXY/RLVR-Decomposed, core_algos.py compute_psr_nsr_outcome_advantage.
    """
    return torch.where(rewards_R > 0.5, positive_advantage_weight, -1.0)


def reinforce_plus_plus_advantages(rewards_R: torch.Tensor, tokens_R: list[int], gamma: float) -> list[torch.Tensor]:
    """Discounted return of each token, gamma^(number of later tokens) times the row's reward, whitened over the batch.

    Rewards 1, 0 of rows of 1 and 3 tokens: returns 1 and 0, 0, 0, mean 0.25, variance (ddof 1) 0.25, advantages 1.5 and
    -0.5, -0.5, -0.5. Source: arXiv 2501.03262, without its KL term; core_algos.py
    compute_reinforce_plus_plus_outcome_advantage.
    """
    returns = [
        reward * gamma ** torch.arange(tokens - 1, -1, -1, dtype=torch.double)
        for reward, tokens in zip(rewards_R.double(), tokens_R, strict=True)
    ]
    return whitened(returns)


def gae_advantages(
    rewards_R: torch.Tensor, values: list[torch.Tensor], gamma: float, lam: float
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Generalised advantages, whitened over the batch, and the critic's targets (advantages before whitening + values).

    values: V of the state before each token. delta_t = r_t + gamma V_(t+1) - V_t with V = 0 after the last token,
    A_t = delta_t + gamma lam A_(t+1). Reward 1 and values 0.5, 0.25 at gamma = 1, lam = 0.5: deltas -0.25, 0.75,
    A = 0.125, 0.75, targets 0.625, 1. Source: arXiv 1506.02438; core_algos.py compute_gae_advantage_return.
    """
    lengths_R = torch.tensor([len(row) for row in values])
    values_RT = pad_sequence([row.double().cpu() for row in values], batch_first=True)
    advantages_RT = torch.zeros_like(values_RT)
    next_value_R = next_advantage_R = torch.zeros(len(values), dtype=torch.double)
    for t in range(values_RT.shape[1] - 1, -1, -1):
        reward_R = rewards_R.double() * (lengths_R - 1 == t)
        delta_R = reward_R + gamma * next_value_R - values_RT[:, t]
        inside_R = t < lengths_R  # nothing is carried past the end of a row
        next_advantage_R = torch.where(inside_R, delta_R + gamma * lam * next_advantage_R, 0.0)
        next_value_R = torch.where(inside_R, values_RT[:, t], 0.0)
        advantages_RT[:, t] = next_advantage_R
    advantages = [row[:length] for row, length in zip(advantages_RT, lengths_R.tolist(), strict=True)]
    returns = [(advantage + value.double().cpu()).float() for advantage, value in zip(advantages, values, strict=True)]
    return whitened(advantages), returns


def whitened(rows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Minus the mean over all tokens of the batch, over their standard deviation (ddof 1); float32.

    Zeros if all tokens agree or there are fewer than two.
    """
    tokens_N = torch.cat(rows)
    if len(tokens_N) < 2:
        return [torch.zeros(len(row)) for row in rows]
    scaled_N = (tokens_N - tokens_N.mean()) * torch.rsqrt(tokens_N.var() + WHITEN_EPSILON)
    return list(scaled_N.float().split([len(row) for row in rows]))


def outcome_advantages(
    objective: Objective, rewards_R: torch.Tensor, groups_R: torch.Tensor, tokens_R: list[int]
) -> torch.Tensor | list[torch.Tensor]:
    """Advantages by any estimator without a critic: float32 [R], or a list by token. Raises as group_advantages."""
    if objective.estimator == "rloo":
        return rloo_advantages(rewards_R, groups_R)
    if objective.estimator == "psr_nsr":
        return psr_nsr_advantages(rewards_R, objective.positive_advantage_weight)
    if objective.estimator == "reinforce_plus_plus":
        return reinforce_plus_plus_advantages(rewards_R, tokens_R, objective.gamma)
    return group_advantages(rewards_R, groups_R, objective.advantage_std)


def per_token(advantages: torch.Tensor | list[torch.Tensor], rows: list[int], tokens: list[int]) -> torch.Tensor:
    """Advantage of each token of `rows`, flat [N], row after row. tokens: number of tokens of each of these rows."""
    if isinstance(advantages, list):
        return torch.cat([advantages[row] for row in rows])
    return advantages[rows].repeat_interleave(torch.tensor(tokens))


def nonzero_rows(advantages: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Rows with a token whose advantage is not 0, bool [R]."""
    if isinstance(advantages, list):
        return torch.tensor([bool(row.any()) for row in advantages])
    return advantages != 0
