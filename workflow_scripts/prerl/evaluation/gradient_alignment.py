"""Gradient alignment of log P(y) with log P(y|x), with the two controls the paper lacks.

To first order an update of log P(y) with step eta and reward R changes log P(y|x) by
eta R <grad log P(y), grad log P(y|x)>; the premise is that the inner product is not negative. Positivity alone could
come from y being the same text, so each rollout is also paired with another problem's prompt,
<grad log P(y), grad log P(y|x')>, and with another problem's prompt and response, <grad log P(y), grad log P(y'|x')>.

Each gradient is of the log-prob summed over response tokens, over all parameters, one flat float32 vector; the tied
embedding counts once. Dividing by both token counts gives inner products of mean log-probs; cosines are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from prerl.models.logprobs import response_logprobs, token_statistics


@dataclass(frozen=True)
class AlignmentRollout:
    """One rollout of the base policy: question id, sample number, prompt ids (x), response ids (y), graded right?"""

    question: str
    sample: int
    context: list[int]
    response: list[int]
    right: bool


def flat_gradient(
    model: PreTrainedModel, context: list[int], response: list[int], temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient of sum_t log P(y_t | context, y_<t) over all parameters, flat [parameters]; the log-probs [tokens]).

    The gradient lies in host memory: beside float32 weights and their gradients a GPU has no room for two more copies.
    """
    model.zero_grad(set_to_none=True)
    logprobs_N = response_logprobs(model, [context], [response], temperature)
    logprobs_N.sum().backward()
    gradient = torch.cat([parameter.grad.reshape(-1).cpu() for parameter in model.parameters()])
    return gradient, logprobs_N.detach()


def partner_order(rollouts: list[AlignmentRollout]) -> list[int]:
    """For each rollout the index of its partner: the rollout at the same place in the next question's list.

    Every rollout serves as partner about equally often. Raises ValueError if there is only one question.
    """
    by_question: dict[str, list[int]] = {}
    for index, rollout in enumerate(rollouts):
        by_question.setdefault(rollout.question, []).append(index)
    if len(by_question) < 2:
        raise ValueError("the controls need rollouts of at least two questions: raise alignment.questions")
    questions = list(by_question)
    following = dict(zip(questions, questions[1:] + questions[:1], strict=True))
    partners = [0] * len(rollouts)
    for question, indices in by_question.items():
        others = by_question[following[question]]
        for place, index in enumerate(indices):
            partners[index] = others[place % len(others)]
    return partners


def _pair(
    name: str, a: torch.Tensor, b: torch.Tensor, tokens_a: int, tokens_b: int, device: torch.device
) -> dict[str, float]:
    inner = squares_a = squares_b = 0.0
    for x, y in zip(a.split(1 << 24), b.split(1 << 24), strict=True):  # float64 sums without float64 copies
        x, y = x.to(device).double(), y.to(device).double()
        inner += torch.dot(x, y).item()
        squares_a += x.square().sum().item()
        squares_b += y.square().sum().item()
    norms = math.sqrt(squares_a) * math.sqrt(squares_b)
    if norms == 0.0:
        raise ValueError("a gradient is exactly zero, so its cosine is undefined: check the weights and the rollouts")
    return {
        f"{name}inner_sum": inner,
        f"{name}inner_mean": inner / (tokens_a * tokens_b),
        f"{name}cosine": inner / norms,
    }


def measure_alignment(
    model: PreTrainedModel, rollouts: list[AlignmentRollout], prefix_id: int, temperature: float = 1.0
) -> Iterator[dict]:
    """One row of alignment.parquet per rollout, in order; four backward passes each.

    Host memory holds at most two flat gradients; the device holds the weights and their gradients.
    """
    model.train()  # Qwen3 has no dropout; activation checkpointing acts in this mode only
    partners = partner_order(rollouts)
    for rollout, partner in zip(rollouts, partners, strict=True):
        other = rollouts[partner]
        tokens = len(rollout.response)
        gradient_y, logp_y = flat_gradient(model, [prefix_id], rollout.response, temperature)
        gradient_yx, logp_yx = flat_gradient(model, rollout.context, rollout.response, temperature)
        row = {
            "question": rollout.question,
            "sample": rollout.sample,
            "right": rollout.right,
            "tokens": tokens,
            **_pair("", gradient_y, gradient_yx, tokens, tokens, model.device),
            "norm_yx": gradient_yx.norm().item(),
            "norm_y": gradient_y.norm().item(),
            "logp_yx": logp_yx.mean().item(),
            "logp_y": logp_y.mean().item(),
            "abs_logp_gap": (logp_yx - logp_y).abs().mean().item(),
        }
        del gradient_yx
        gradient, _ = flat_gradient(model, other.context, rollout.response, temperature)
        row |= _pair("other_x_", gradient_y, gradient, tokens, tokens, model.device)
        gradient, _ = flat_gradient(model, other.context, other.response, temperature)
        row |= _pair("other_xy_", gradient_y, gradient, tokens, len(other.response), model.device)
        yield row
    model.zero_grad(set_to_none=True)


def token_agreement(
    model: PreTrainedModel, rollouts: list[AlignmentRollout], prefix_id: int, temperature: float = 1.0
) -> Iterator[dict]:
    """One row of alignment_tokens.parquet per response token: both log-probs, entropy given x, same argmax?"""
    model.eval()
    for rollout in rollouts:
        with_x = token_statistics(model, [rollout.context], [rollout.response], temperature)
        without = token_statistics(model, [[prefix_id]], [rollout.response], temperature)
        columns = zip(
            with_x.logprobs.tolist(),
            without.logprobs.tolist(),
            with_x.entropies.tolist(),
            (with_x.top_ids == without.top_ids).tolist(),
            strict=True,
        )
        for position, (logp_yx, logp_y, entropy, same) in enumerate(columns):
            yield {
                "question": rollout.question,
                "sample": rollout.sample,
                "position": position,
                "logp_yx": logp_yx,
                "logp_y": logp_y,
                "entropy_yx": entropy,
                "same_top1": same,
            }
