"""The objectives of PreRL and DSRL: advantages, which rows count, token weights, clipped surrogate.

Standard RL (post-train space) follows grad log P(y|x) R, PreRL (pre-train space) grad log P(y) R with the same rollouts
y ~ P(y|x) and rewards; only the prompt is dropped from the update (abstract of arXiv 2604.14142).
Everything here is the same for both spaces; which log-probs are scored is the caller's choice.

The loss of an update is a weighted sum over response tokens,
    L = sum_rows w_row * sum_tokens surrogate(row, token),
and the weights w_row hold the loss coefficient and the token mean. So a row with w_row A_row = 0 need not reach the
model, and any split of the rows into micro-batches or ranks gives the same gradient.

Shapes: R rows (all samples of the batch), N tokens.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import torch

ESTIMATORS = ("grpo", "rloo", "reinforce_plus_plus", "psr_nsr", "gae")
"""Names of the advantage estimators, verl's `algorithm.adv_estimator`; the others than grpo are in prerl.advantages."""

STD_EPSILON = 1e-6
"""Added to the group's standard deviation (verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage)."""


@dataclass(frozen=True)
class Objective:
    """What one phase optimises.

    space: "posttrain" (log P(y|x)) or "pretrain" (log P(y)). samples: "all", "positive" or "negative", by the sign of
    the advantage. coefficient multiplies the loss (official: 0.01 in the pre-train space, verl/workers/actor/
    dp_actor.py 1492-1503). advantage_std: divide by the group's standard deviation (official: RL yes, pre-train no).
    eos_in_mask: False leaves the closing EOS of finished answers out of the loss and of the token mean. token_mean:
    "official" (mean per micro-batch of verl's dynamic packing, weighted by its share of rows) or "global" (mean over
    all counting tokens of the batch); max_tokens_per_micro_batch and ranks describe the official packing. clip_low,
    clip_high: PPO's clip range. advantages: one of ESTIMATORS; advantage_std is grpo's, positive_advantage_weight
    psr_nsr's, gamma reinforce_plus_plus's and gae's, lam gae's.
    """

    space: str
    samples: str
    coefficient: float
    advantage_std: bool
    eos_in_mask: bool
    token_mean: str
    max_tokens_per_micro_batch: int
    ranks: int
    clip_low: float
    clip_high: float
    advantages: str = "grpo"
    positive_advantage_weight: float = 1.0
    gamma: float = 1.0
    lam: float = 1.0

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.space, ("posttrain", "pretrain")),
            (self.samples, ("all", "positive", "negative")),
            (self.token_mean, ("official", "global")),
            (self.advantages, ESTIMATORS),
        ):
            if value not in allowed:
                raise ValueError(f"objective: {value!r} is none of {', '.join(allowed)}")


def group_advantages(rewards_R: torch.Tensor, groups_R: torch.Tensor, divide_by_std: bool) -> torch.Tensor:
    """Reward minus the mean of its group, divided by the group's std (ddof 1) + 1e-6 where asked; float32 [R].

    groups_R: int64 id of each row's prompt, any order. Rewards 1, 0, 0, 0 of one group give 0.75, -0.25, -0.25, -0.25,
    and with std (0.5): 1.5, -0.5, -0.5, -0.5. A group whose rewards agree gets exact zeros. Raises ValueError on a
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


def counting_rows(advantages: torch.Tensor | list[torch.Tensor], samples: str) -> torch.Tensor:
    """Rows whose tokens stand in the token mean, bool [R]: all, advantage > 0, or advantage < 0.

    A row whose tokens have an advantage each (a list of [tokens]) has no sign: ValueError unless samples is all.

    "negative" is by advantage, not by wrongness: a wrong answer in an all-wrong group has advantage 0 and does not
    count (verl/workers/actor/dp_actor.py 1230-1247 and 1460-1476).
    """
    if samples == "all":
        return torch.ones(len(advantages), dtype=torch.bool)
    if isinstance(advantages, list):
        raise ValueError(f"samples: {samples} needs an estimator with one advantage a row, not one a token")
    return advantages > 0 if samples == "positive" else advantages < 0


def row_weights(
    tokens_R: torch.Tensor, counting_R: torch.Tensor, objective: Objective, lengths: list[int]
) -> torch.Tensor:
    """Weight of every token of a row in the loss, coefficient included, float64 [R]; 0 for rows that do not count.

    tokens_R: tokens in the loss mask of each row (int64). lengths: prompt + response tokens of each row, which verl
    packs by in both spaces (dp_actor.py packs once for both losses). global: 1 / (all counting tokens). official:
    within each micro-batch 1 / (its counting tokens) times its share of the rank's rows, averaged over ranks; a
    micro-batch without a counting token gives nothing.
    """
    counting_tokens_R = tokens_R * counting_R
    if objective.token_mean == "global":
        total = int(counting_tokens_R.sum())
        return counting_R.double() * (objective.coefficient / max(total, 1))
    weights_R = torch.zeros(len(lengths), dtype=torch.double)
    for rank in official_packing(lengths, objective.max_tokens_per_micro_batch, objective.ranks):
        rank_rows = sum(map(len, rank))
        for rows in rank:
            total = int(counting_tokens_R[rows].sum())
            if total:
                weights_R[rows] = objective.coefficient * len(rows) / rank_rows / total / objective.ranks
    return weights_R * counting_R


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


def official_packing(lengths: list[int], max_tokens: int, ranks: int) -> list[list[list[int]]]:
    """verl's packing of a batch: rows of each micro-batch of each rank.

    Rows go to ranks in equal numbers with balanced token sums (trainer.balance_batch), then each rank cuts its rows
    into k micro-batches of balanced token sums, k = the largest ceil(sum / max_tokens) over ranks
    (verl/utils/seqlen_balancing.py rearrange_micro_batches). Raises ValueError where rows do not divide by ranks.
    """
    if len(lengths) % ranks:
        raise ValueError(f"{len(lengths)} rows do not divide over token_mean ranks {ranks}: change one of them")
    shares = balanced_partition(lengths, ranks, equal_size=True)
    cuts = max(-(-sum(lengths[row] for row in share) // max_tokens) for share in shares)
    cuts = min(cuts, len(lengths) // ranks)
    return [
        [
            [share[i] for i in part]
            for part in balanced_partition([lengths[row] for row in share], cuts, equal_size=False)
        ]
        for share in shares
    ]


def balanced_partition(lengths: list[int], parts: int, equal_size: bool) -> list[list[int]]:
    """Indices in `parts` groups of nearly equal sums by the largest differencing method (Karmarkar and Karp 1982).

    equal_size: every group gets len(lengths) / parts items. [8, 7, 6, 5, 4] in two gives sums 16 and 14.
    """

    def state(groups: list[tuple[int, int, list[int]]]) -> tuple:
        # (key, groups): groups of (sum, count, items), largest first; the key puts the largest spread first and settles
        # ties as verl does, by the larger first group
        groups = sorted(groups, reverse=True)
        total, count, items = groups[0]
        return (groups[-1][0] - total, -total, -count, [-item for item in items]), groups

    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    step = parts if equal_size else 1
    heap = []
    for start in range(0, len(order), step):
        groups = [(lengths[i], 1, [i]) for i in order[start : start + step]]
        heap.append(state(groups + [(0, 0, [])] * (parts - len(groups))))
    heapq.heapify(heap)
    while len(heap) > 1:  # the two states of largest spread are merged, big groups with small ones
        first, second = heapq.heappop(heap)[1], heapq.heappop(heap)[1]
        pairs = zip(first, reversed(second), strict=True)
        heapq.heappush(heap, state([(a + b, m + n, x + y) for (a, m, x), (b, n, y) in pairs]))
    return [sorted(items) for _, _, items in heap[0][1]]
