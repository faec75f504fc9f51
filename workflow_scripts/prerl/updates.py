"""One on-policy update from graded rollouts, and the measurements of both spaces that go with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from prerl.advantages import nonzero_rows, of_tokens
from prerl.logprobs import pack_micro_batches, response_logprobs
from prerl.objectives import balanced_partition, clip_fraction, clipped_surrogate
from prerl.packing import packs_rows
from prerl.rollouts import GradedRollouts
from prerl.sharding import clip_gradients

NO_ROWS = ([[0]], [[0]])
"""Contexts and responses of a micro-batch for a rank that has no row left."""


def plan_micro_batches(lengths: list[int], max_tokens: int, ranks: int, packed: bool) -> list[list[list[int]]]:
    """Row indices of each micro-batch of each rank, equally many micro-batches on every rank (none for no rows).

    Padded: `pack_micro_batches` in turn. Packed: all micro-batches, over all ranks, of nearly equal token sums, in the
    fewest steps that keep them within `max_tokens` (a longer row is alone). The last ones may be without a row.
    """
    if packed and lengths:
        alone = sum(2 * length > max_tokens for length in lengths)  # no two of these go together
        steps = -(-max(-(-sum(lengths) // max_tokens), alone) // ranks)
        batches = balanced_partition(lengths, steps * ranks, equal_size=False)
        while any(len(batch) > 1 and sum(lengths[row] for row in batch) > max_tokens for batch in batches):
            steps += 1
            batches = balanced_partition(lengths, steps * ranks, equal_size=False)
        batches = [batch for batch in sorted(batches, key=lambda batch: -sum(lengths[i] for i in batch)) if batch]
    else:
        batches = pack_micro_batches(lengths, max_tokens)
    batches += [[]] * (-len(batches) % ranks)
    return [batches[rank::ranks] for rank in range(ranks)]


def own_micro_batches(
    model: torch.nn.Module,
    accelerator: Accelerator,
    contexts: list[list[int]],
    responses: list[list[int]],
    micro_batch_tokens: int,
    rows: list[int] | None = None,
) -> list[list[int]]:
    """Of `rows` (default: all with a response) this process's share, in micro-batches.

    An empty micro-batch is a pass over NO_ROWS: the other processes have rows then, and every pass is one of all.
    """
    rows = [row for row in (range(len(responses)) if rows is None else rows) if responses[row]]
    lengths = [len(contexts[row]) + len(responses[row]) - 1 for row in rows]
    shares = plan_micro_batches(lengths, micro_batch_tokens, accelerator.num_processes, packs_rows(model))
    return [[rows[i] for i in batch] for batch in shares[accelerator.process_index]]


def policy_update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    contexts: list[list[int]],
    responses: list[list[int]],
    advantages: torch.Tensor | list[torch.Tensor],
    weights_R: torch.Tensor,
    *,
    clip: tuple[float, float],
    temperature: float,
    micro_batch_tokens: int,
    grad_clip: float,
) -> dict[str, float | int]:
    """Gradient of sum_rows weight * sum_tokens surrogate, clipped to norm `grad_clip`, then one optimizer step.

    advantages: one a row, [R], or one a token, a list of R tensors. Rows with weight or advantage 0 never reach the
    model. Without any other row the gradient is zero and the optimizer still steps, as the official code does (weight
    decay and the decay of the moments go on). Processes share the rows, their gradients are summed. Raises
    FloatingPointError on a gradient, and so on a loss, that is not finite, before the weights change.
    """
    counting = (weights_R != 0) & nonzero_rows(advantages)
    rows = [row for row in counting.nonzero()[:, 0].tolist() if responses[row]]
    model.train()
    optimizer.zero_grad(set_to_none=False)
    totals = torch.zeros(3, dtype=torch.double)  # loss, clipped tokens, tokens
    for chosen in own_micro_batches(model, accelerator, contexts, responses, micro_batch_tokens, rows):
        if not chosen:
            response_logprobs(model, *NO_ROWS).sum().mul(0.0).backward()
            continue
        logprobs_N = response_logprobs(
            model, [contexts[row] for row in chosen], [responses[row] for row in chosen], temperature
        )
        counts = torch.tensor([len(responses[row]) for row in chosen], device=logprobs_N.device)
        advantages_N = of_tokens(advantages, chosen, [len(responses[row]) for row in chosen]).to(logprobs_N.device)
        weights_N = weights_R[chosen].float().to(logprobs_N.device).repeat_interleave(counts)
        old_logprobs_N = logprobs_N.detach()
        loss = (clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, *clip) * weights_N).sum()
        loss.backward()
        clipped = clip_fraction(logprobs_N.detach(), old_logprobs_N, advantages_N, *clip) * len(logprobs_N)
        totals += torch.tensor([loss.item(), clipped, len(logprobs_N)], dtype=torch.double)
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if accelerator.num_processes > 1:
        totals = accelerator.reduce(totals.to(accelerator.device), "sum").cpu()
    grad_norm = clip_gradients(model.parameters(), grad_clip)
    if not torch.isfinite(grad_norm):  # a token whose loss is not finite makes it so
        raise FloatingPointError(
            f"the loss is {totals[0].item()} and the gradient norm {grad_norm.item()}: no step was taken and the state "
            "before it is kept; lower training.learning_rate or look at the rollouts of this update"
        )
    optimizer.step()
    tokens = int(totals[2])
    return {
        "loss": totals[0].item(),
        "grad_norm": grad_norm.item(),
        "clip_fraction": totals[1].item() / max(tokens, 1),
        "tokens_trained": tokens,
        "rows_trained": len(rows),
    }


@torch.no_grad()
def measure_spaces(
    model: PreTrainedModel,
    accelerator: Accelerator,
    graded: GradedRollouts,
    prefix_id: int,
    samples_per_prompt: int,
    temperature: float,
    micro_batch_tokens: int,
) -> dict[str, float | None]:
    """log P(y|x) and log P(y) of right and wrong samples (mean per token, nats) and the sampler-trainer gap.

    Measured by the trainer on the first `samples_per_prompt` samples of each prompt, before the update. None where
    there is no right (or wrong) sample among them. gap: |sampler - trainer log-prob| per token, mean and maximum.
    """
    seen: dict[int, int] = {}
    rows = []
    for row, group in enumerate(graded.groups_R.tolist()):
        seen[group] = seen.get(group, 0) + 1
        if seen[group] <= samples_per_prompt:
            rows.append(row)
    responses = [graded.rollouts[row].token_ids for row in rows]
    logp_yx, logp_y = (
        row_logprobs(model, accelerator, contexts, responses, temperature, micro_batch_tokens)
        for contexts in ([graded.contexts[row] for row in rows], [[prefix_id]] * len(rows))
    )
    gaps_N = torch.cat(
        [(own - torch.tensor(graded.rollouts[row].logprobs)).abs() for row, own in zip(rows, logp_yx, strict=True)]
    )
    result: dict[str, float | None] = {"gap_mean": gaps_N.mean().item(), "gap_max": gaps_N.max().item()}
    for name, right in (("right", True), ("wrong", False)):
        chosen = [i for i, row in enumerate(rows) if bool(graded.rewards_R[row] > 0.5) is right]
        for space, logprobs in (("yx", logp_yx), ("y", logp_y)):
            tokens = torch.cat([logprobs[i] for i in chosen]) if chosen else None
            result[f"logp_{space}_{name}"] = None if tokens is None else tokens.mean().item()
    return result


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
    """What `score`, a pass of `model`, gives for each response token: one CPU tensor [tokens] a row, in row order.

    score(contexts, responses) is flat [N], row after row. The processes share the micro-batches; all get all rows.
    """
    result = {row: torch.zeros(0) for row, response in enumerate(responses) if not response}
    for batch in own_micro_batches(model, accelerator, contexts, responses, micro_batch_tokens):
        if not batch:
            score(*NO_ROWS)
            continue
        scores_N = score([contexts[row] for row in batch], [responses[row] for row in batch]).cpu()
        result.update(zip(batch, scores_N.split([len(responses[row]) for row in batch]), strict=True))
    if accelerator.num_processes > 1:
        result = dict(gather_object(list(result.items())))
    return [result[row] for row in range(len(responses))]
