"""Micro-batches of rows, shared over ranks, and passes over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from prerl.core.partition import parts_within
from prerl.models.logprobs import response_logprobs
from prerl.models.packing import packs_rows, shares_prompt


def pack_micro_batches(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Row indices of micro-batches of at most `max_tokens` padded tokens, rows of like length together.

    A row longer than `max_tokens` gets a micro-batch to itself. Order: longest first.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


NO_ROWS = ([[0]], [[0]])
"""Contexts and responses of a dummy micro-batch, for a rank that has no row left."""


def plan_micro_batches(lengths: list[int], max_tokens: int, ranks: int, packed: bool) -> list[list[list[int]]]:
    """Row indices of each micro-batch of each rank, the same number of micro-batches on every rank.

    Padded: `pack_micro_batches`, dealt out in turn. Packed: micro-batches of nearly equal token sums over all ranks, in
    the fewest steps that keep them within `max_tokens` (a longer row is alone). The last ones may be empty.
    """
    if packed and lengths:
        alone = sum(2 * length > max_tokens for length in lengths)  # no two of these go together
        steps = -(-max(-(-sum(lengths) // max_tokens), alone) // ranks)
        batches = parts_within(lengths, max_tokens, steps * ranks, ranks)
        batches = [batch for batch in sorted(batches, key=lambda batch: -sum(lengths[i] for i in batch)) if batch]
    else:
        batches = pack_micro_batches(lengths, max_tokens)
    batches += [[]] * (-len(batches) % ranks)
    return [batches[rank::ranks] for rank in range(ranks)]


def rank_micro_batches(
    model: torch.nn.Module,
    accelerator: Accelerator,
    contexts: list[list[int]],
    responses: list[list[int]],
    micro_batch_tokens: int,
    rows: list[int] | None = None,
) -> list[list[int]]:
    """This rank's share of `rows` (default: all with a response), in micro-batches.

    For an empty micro-batch run a pass over NO_ROWS: other ranks have rows then, and every pass is a collective.
    """
    rows = [row for row in (range(len(responses)) if rows is None else rows) if responses[row]]
    units, tokens = [[row] for row in rows], [len(contexts[row]) + len(responses[row]) - 1 for row in rows]
    if packs_rows(model):
        units, tokens = prompt_groups(contexts, responses, rows, micro_batch_tokens)
    shares = plan_micro_batches(tokens, micro_batch_tokens, accelerator.num_processes, packs_rows(model))
    return [[row for i in batch for row in units[i]] for batch in shares[accelerator.process_index]]


def prompt_groups(
    contexts: list[list[int]], responses: list[list[int]], rows: list[int], max_tokens: int
) -> tuple[list[list[int]], list[int]]:
    """Rows that share a prompt when packed, and the tokens of each group; cut into as few as fit `max_tokens`.

    Neighbours of one context: (contexts [[1, 2], [1, 2]], responses [[3], [4, 5]]) is a group of 2 + 0 + 1 tokens.
    """
    chosen, answers = [contexts[row] for row in rows], [responses[row] for row in rows]
    groups: list[list[int]] = []
    for index, context in enumerate(chosen):
        shared = shares_prompt(chosen, answers, index)
        if shared and groups and chosen[groups[-1][-1]] == context and shares_prompt(chosen, answers, index - 1):
            groups[-1].append(index)
        else:
            groups.append([index])
    units, tokens = [], []
    for group in groups:
        prompt = len(chosen[group[0]])
        own = [len(answers[index]) - 1 for index in group]
        room = max(max_tokens - prompt, max(own), 1)
        cut = parts_within(own, room, max(1, -(-sum(own) // room)))
        for part in filter(None, cut):
            units.append([rows[group[i]] for i in sorted(part)])
            tokens.append(prompt + sum(own[i] for i in part))
    return units, tokens


def row_logprobs(
    model: PreTrainedModel,
    accelerator: Accelerator,
    contexts: list[list[int]],
    responses: list[list[int]],
    temperature: float,
    micro_batch_tokens: int,
) -> list[torch.Tensor]:
    """Log-probs of each row's response, one CPU tensor [tokens] a row, in row order; see `score_rows`."""

    def score(contexts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
        return response_logprobs(model, contexts, responses, temperature)

    return score_rows(model, accelerator, score, contexts, responses, micro_batch_tokens)


def score_rows(
    model: torch.nn.Module,
    accelerator: Accelerator,
    score: Callable[[list[list[int]], list[list[int]]], torch.Tensor],
    contexts: list[list[int]],
    responses: list[list[int]],
    micro_batch_tokens: int,
) -> list[torch.Tensor]:
    """`score` of each response token, a pass of `model`: one CPU tensor [tokens] a row, in row order.

    score(contexts, responses) is flat [N], row after row. Ranks share the micro-batches; every rank gets all rows.
    """
    result = {row: torch.zeros(0) for row, response in enumerate(responses) if not response}
    for batch in rank_micro_batches(model, accelerator, contexts, responses, micro_batch_tokens):
        if not batch:
            score(*NO_ROWS)
            continue
        scores_N = score([contexts[row] for row in batch], [responses[row] for row in batch]).cpu()
        result.update(zip(batch, scores_N.split([len(responses[row]) for row in batch]), strict=True))
    if accelerator.num_processes > 1:
        result = dict(gather_object(list(result.items())))
    return [result[row] for row in range(len(responses))]
