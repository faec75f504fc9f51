"""One on-policy update from graded rollouts, and the measurements of both spaces that go with it."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from prerl.models.batching import NO_ROWS, rank_micro_batches, row_logprobs
from prerl.models.logprobs import response_logprobs
from prerl.models.sharding import clip_gradients
from prerl.objectives import spaces
from prerl.objectives.advantages import nonzero_rows, per_token
from prerl.objectives.surrogate import clip_fraction, clipped_surrogate
from prerl.rollouts.graded import GradedRollouts


def adamw(
    model: torch.nn.Module,
    accelerator: Accelerator,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> torch.optim.AdamW:
    """AdamW over all parameters of `model` as they are now; on a GPU fused, which copies no weights."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=learning_rate,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        fused=accelerator.device.type == "cuda",
    )


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
    decay and the decay of the moments continue). Ranks share the rows and sum their gradients. Raises
    FloatingPointError on a gradient, and so on a loss, that is not finite, before the weights change.
    """
    in_loss = (weights_R != 0) & nonzero_rows(advantages)
    rows = [row for row in in_loss.nonzero()[:, 0].tolist() if responses[row]]
    model.train()
    optimizer.zero_grad(set_to_none=False)
    totals = torch.zeros(3, dtype=torch.double)  # loss, clipped tokens, tokens
    for chosen in rank_micro_batches(model, accelerator, contexts, responses, micro_batch_tokens, rows):
        if not chosen:
            response_logprobs(model, *NO_ROWS).sum().mul(0.0).backward()
            continue
        logprobs_N = response_logprobs(
            model, [contexts[row] for row in chosen], [responses[row] for row in chosen], temperature
        )
        counts = torch.tensor([len(responses[row]) for row in chosen], device=logprobs_N.device)
        advantages_N = per_token(advantages, chosen, [len(responses[row]) for row in chosen]).to(logprobs_N.device)
        weights_N = weights_R[chosen].float().to(logprobs_N.device).repeat_interleave(counts)
        old_logprobs_N = logprobs_N.detach()
        loss = (clipped_surrogate(logprobs_N, old_logprobs_N, advantages_N, *clip) * weights_N).sum()
        loss.backward()
        clipped = clip_fraction(logprobs_N.detach(), old_logprobs_N, advantages_N, *clip) * len(logprobs_N)
        totals += torch.tensor([loss.item(), clipped, len(logprobs_N)], dtype=torch.double)
    if accelerator.num_processes > 1:
        totals = accelerator.reduce(totals.to(accelerator.device), "sum").cpu()
    grad_norm = _step(model, optimizer, grad_clip, totals[0].item())
    tokens = int(totals[2])
    return {
        "loss": totals[0].item(),
        "grad_norm": grad_norm,
        "clip_fraction": totals[1].item() / max(tokens, 1),
        "tokens_trained": tokens,
        "rows_trained": len(rows),
    }


def _step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, grad_clip: float, loss: float) -> float:
    """Clip the gradient (zero where there is none) and step; returns its norm. Raises as policy_update."""
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grad_norm = clip_gradients(model.parameters(), grad_clip)
    if not torch.isfinite(grad_norm):  # a token whose loss is not finite makes it so
        raise FloatingPointError(
            f"the loss is {loss} and the gradient norm {grad_norm.item()}: no step was taken and the state before it "
            "is kept; lower training.learning_rate or look at the rollouts of this update"
        )
    optimizer.step()
    return grad_norm.item()


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
    prompts = [graded.contexts[row] for row in rows]
    logp_yx, logp_y = (
        row_logprobs(model, accelerator, contexts, responses, temperature, micro_batch_tokens)
        for contexts in (spaces.contexts(space, prompts, prefix_id) for space in ("posttrain", "pretrain"))
    )
    gaps_N = torch.cat(
        [(logp - torch.tensor(graded.rollouts[row].logprobs)).abs() for row, logp in zip(rows, logp_yx, strict=True)]
    )
    result: dict[str, float | None] = {"gap_mean": gaps_N.mean().item(), "gap_max": gaps_N.max().item()}
    for name, right in (("right", True), ("wrong", False)):
        chosen = [i for i, row in enumerate(rows) if bool(graded.rewards_R[row] > 0.5) is right]
        for space, logprobs in (("yx", logp_yx), ("y", logp_y)):
            tokens = torch.cat([logprobs[i] for i in chosen]) if chosen else None
            result[f"logp_{space}_{name}"] = None if tokens is None else tokens.mean().item()
    return result
