"""Which rows are in the loss, and the weight of their tokens: a global token mean, or that of the official packing.

The loss of an update is a weighted sum over response tokens,
    L = sum_rows w_row * sum_tokens surrogate(row, token),
and the weights w_row hold the loss coefficient and the token mean. Hence a row with w_row A_row = 0 never reaches
the model, and any split of the rows into micro-batches or ranks gives the same gradient.

Shape: R rows (all samples of the batch).
"""

from __future__ import annotations

import torch

from prerl.core.partition import balanced_partition
from prerl.objectives.objective import Objective


def loss_rows(advantages: torch.Tensor | list[torch.Tensor], samples: str) -> torch.Tensor:
    """Rows whose tokens are in the loss and the token mean, bool [R]: all, advantage > 0, or advantage < 0.

    PSR and NSR of the paper. "negative" refers to the advantage, not to the answer: a wrong answer in an all-wrong
    group has advantage 0 and is left out (verl/workers/actor/dp_actor.py 1230-1247 and 1460-1476). Raises ValueError
    for advantages by token, whose rows have no sign, unless samples is "all".
    """
    if samples == "all":
        return torch.ones(len(advantages), dtype=torch.bool)
    if isinstance(advantages, list):
        raise ValueError(f"samples: {samples} needs an estimator with one advantage a row, not one a token")
    return advantages > 0 if samples == "positive" else advantages < 0


def row_weights(
    tokens_R: torch.Tensor, in_loss_R: torch.Tensor, objective: Objective, lengths: list[int]
) -> torch.Tensor:
    """Weight of every token of a row in the loss, coefficient included, float64 [R]; 0 for rows outside the loss.

    tokens_R: tokens in the loss mask of each row (int64). lengths: prompt + response tokens of each row: verl packs
    by them in both spaces (dp_actor.py packs once for both losses). global: 1 / (all tokens in the loss). official:
    within each micro-batch 1 / (its tokens in the loss) times its share of the rank's rows, averaged over ranks; a
    micro-batch without a token in the loss contributes nothing.
    """
    loss_tokens_R = tokens_R * in_loss_R
    if objective.token_mean == "global":
        total = int(loss_tokens_R.sum())
        return in_loss_R.double() * (objective.coefficient / max(total, 1))
    weights_R = torch.zeros(len(lengths), dtype=torch.double)
    for rank in official_packing(lengths, objective.max_tokens_per_micro_batch, objective.ranks):
        rank_rows = sum(map(len, rank))
        for rows in rank:
            total = int(loss_tokens_R[rows].sum())
            if total:
                weights_R[rows] = objective.coefficient * len(rows) / rank_rows / total / objective.ranks
    return weights_R * in_loss_R


def official_packing(lengths: list[int], max_tokens: int, ranks: int) -> list[list[list[int]]]:
    """verl's packing of a batch: rows of each micro-batch of each rank.

    Rows go to ranks in equal numbers with balanced token sums (trainer.balance_batch), then each rank cuts its rows
    into k micro-batches of balanced token sums, k = the largest ceil(sum / max_tokens) over ranks
    (verl/utils/seqlen_balancing.py rearrange_micro_batches). Raises ValueError if the rows do not divide by ranks.
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
