"""Gradient alignment of log P(y) with log P(y|x), with the controls that the paper lacks.

To first order an update of log P(y) with step eta and reward R changes log P(y|x) by
eta R <grad log P(y), grad log P(y|x)>; the premise is that the inner product is not negative. Positivity alone could
come from y being the same text, so the gradient of log P(y) is also compared with those of log P(y | something else):
COMPARED lists them. What x itself contributes is the excess of the own x over another problem's.

Each gradient is of the log-prob summed over response tokens, over all parameters; the tied embedding counts once.
Dividing by both token counts gives inner products of mean log-probs; cosines are the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from prerl.models.logprobs import response_logprobs, token_statistics

COMPARED = {
    "own_x": "the problem that y answers",
    "other_x": "another problem, `other_problems` draws",
    "shuffled_x": "the own problem, its words in random order",
    "empty_x": "an empty problem",
    "other_xy": "another problem and an answer to it",
    "shuffled_y": "the own problem, y's tokens in random order, so also in log P(y)",
}
"""What the gradient of log P(y) is compared with, by its name in the column `compared`."""

KINDS = {"embedding and head": "embed|lm_head", "attention": "attn", "MLP": "mlp", "norms": "norm"}
DEPTHS = ("early", "middle", "late")


@dataclass(frozen=True)
class AlignmentRollout:
    """One rollout of the base policy: question id, sample number, response ids (y)."""

    question: str
    sample: int
    response: list[int]


Gradient = dict[str, torch.Tensor]
"""Parameter -> gradient of the summed log-prob, float32, on the host: beside float32 weights and their gradients a GPU
has no room for more copies."""


def gradient_of(
    model: PreTrainedModel, context: list[int], response: list[int], temperature: float = 1.0
) -> tuple[Gradient, torch.Tensor]:
    """(gradient of sum_t log P(y_t | context, y_<t); the log-probs [tokens], detached)."""
    model.train()  # no dropout in these models; activation checkpointing acts in this mode only
    model.zero_grad(set_to_none=True)
    logprobs_N = response_logprobs(model, [context], [response], temperature)
    logprobs_N.sum().backward()
    gradient = {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return gradient, logprobs_N.detach()


def parameter_groups(model: PreTrainedModel) -> dict[str, list[str]]:
    """Group -> names of its parameters: `all`, the KINDS, and the layers in thirds (DEPTHS).

    A norm inside an attention block is a norm. Raises ValueError for a parameter that is of no kind.
    """
    layers = model.config.num_hidden_layers
    groups: dict[str, list[str]] = {"all": [], **{kind: [] for kind in KINDS}, **{depth: [] for depth in DEPTHS}}
    for name, _ in model.named_parameters():
        kinds = [kind for kind, marks in KINDS.items() if any(mark in name for mark in marks.split("|"))]
        if not kinds:
            raise ValueError(f"{name} is neither of {', '.join(KINDS)}: name its kind in gradient_alignment.KINDS")
        groups["all"].append(name)
        groups["norms" if "norms" in kinds else kinds[0]].append(name)
        if ".layers." in name:
            layer = int(name.split(".layers.")[1].split(".")[0])
            groups[DEPTHS[layer * len(DEPTHS) // layers]].append(name)
    return {group: names for group, names in groups.items() if names}


def in_rounds(rollouts: list[AlignmentRollout]) -> list[AlignmentRollout]:
    """The rollouts ordered by sample, then question: neighbours, the last and the first too, answer two questions.

    Raises ValueError with fewer than two questions, or unequal numbers of rollouts.
    """
    questions = list(dict.fromkeys(rollout.question for rollout in rollouts))
    if len(questions) < 2:
        raise ValueError("the controls need rollouts of at least two questions: raise `questions`")
    place = {question: index for index, question in enumerate(questions)}
    ordered = sorted(rollouts, key=lambda rollout: (rollout.sample, place[rollout.question]))
    if [rollout.question for rollout in ordered] != questions * (len(rollouts) // len(questions)):
        raise ValueError("questions have unequal numbers of rollouts: sample them again")
    return ordered


def other_questions(questions: list[str], question: str, sample: int, draws: int) -> list[str]:
    """`draws` other questions, all different; over questions and samples each serves equally often.

    Raises ValueError if there are not that many others.
    """
    others = len(questions) - 1
    if draws > others:
        raise ValueError(f"{draws} other problems of {others}: raise `questions` or lower other_problems")
    here = questions.index(question)
    return [questions[(here + 1 + (sample * draws + draw) % others) % len(questions)] for draw in range(draws)]


def shuffled_words(problem: str, seed: str) -> str:
    """The words of a problem in random order, or its characters if it is one word."""
    words = problem.split()
    pieces, joint = (words, " ") if len(words) > 1 else (list(problem), "")
    random.Random(seed).shuffle(pieces)
    return joint.join(pieces)


@dataclass(frozen=True)
class Contexts:
    """Prompt ids of each question's problem (x), of the problem with its words shuffled, and of an empty problem."""

    own: Mapping[str, list[int]]
    shuffled: Mapping[str, list[int]]
    empty: list[int]


IN_CACHE = 2**16
"""Elements at a time of an inner product: copies that stay in a core's cache make it ten times as fast."""


def products(a: Gradient, b: Gradient) -> dict[str, float]:
    """Inner product of each parameter's gradients; float64 sums of float32 products."""

    def product(x: torch.Tensor, y: torch.Tensor) -> float:
        pieces = zip(x.flatten().split(IN_CACHE), y.flatten().split(IN_CACHE), strict=True)
        return math.fsum((one * other).sum(dtype=torch.float64).item() for one, other in pieces)

    return {name: product(x, b[name]) for name, x in a.items()}


class Comparison:
    """The gradient of log P(y) over `tokens` tokens, to be compared with others over groups of parameters."""

    def __init__(self, y: Gradient, tokens: int, groups: Mapping[str, list[str]]) -> None:
        self.y, self.tokens, self.groups = y, tokens, groups
        self.squares = products(y, y)

    def rows(self, compared: str, other: Gradient, other_tokens: int, draw: int = 0) -> list[dict]:
        """For each group: inner product of summed and of mean log-probs, cosine, both norms (of summed log-probs).

        Raises ValueError for a gradient that is zero over all parameters; another group's cosine is NaN then.
        """
        tables = products(self.y, other), self.squares, products(other, other)
        rows = []
        for group, names in self.groups.items():
            inner, squares_y, squares = (math.fsum(table[name] for name in names) for table in tables)
            norms = math.sqrt(squares_y) * math.sqrt(squares)
            if norms == 0.0 and group == "all":
                raise ValueError("a gradient is exactly zero, so its cosine is undefined: check weights and rollouts")
            rows.append(
                {
                    "compared": compared,
                    "draw": draw,
                    "group": group,
                    "inner_sum": inner,
                    "inner_mean": inner / (self.tokens * other_tokens),
                    "cosine": inner / norms if norms else math.nan,
                    "norm_y": math.sqrt(squares_y),
                    "norm": math.sqrt(squares),
                }
            )
        return rows


def measure_alignment(
    model: PreTrainedModel,
    rollouts: list[AlignmentRollout],
    chosen: range,
    contexts: Contexts,
    prefix_id: int,
    other_problems: int,
    temperature: float = 1.0,
) -> Iterator[tuple[AlignmentRollout, list[dict]]]:
    """Each of the `chosen` rollouts with its rows of gradients.parquet, one for each comparison, draw and group.

    Args:
        rollouts: all of a benchmark, `in_rounds`; the partner of `other_xy` is the one before.
        chosen: positions in `rollouts` that this job measures.

    Raises ValueError: see other_questions and Comparison.rows.
    """
    groups, questions = parameter_groups(model), list(contexts.own)

    def gradient(context: list[int], response: list[int]) -> Gradient:
        return gradient_of(model, context, response, temperature)[0]

    before = rollouts[chosen[0] - 1]
    previous, previous_tokens = gradient(contexts.own[before.question], before.response), len(before.response)
    for position in chosen:
        rollout = rollouts[position]
        question, y, tokens = rollout.question, rollout.response, len(rollout.response)
        gradient_y, own = gradient([prefix_id], y), gradient(contexts.own[question], y)
        with_y = Comparison(gradient_y, tokens, groups)
        rows = with_y.rows("own_x", own, tokens)
        for draw, other in enumerate(other_questions(questions, question, rollout.sample, other_problems)):
            rows += with_y.rows("other_x", gradient(contexts.own[other], y), tokens, draw)
        rows += with_y.rows("shuffled_x", gradient(contexts.shuffled[question], y), tokens)
        rows += with_y.rows("empty_x", gradient(contexts.empty, y), tokens)
        rows += with_y.rows("other_xy", previous, previous_tokens)
        mixed = random.Random(f"{question}/{rollout.sample}").sample(y, tokens)
        with_mixed = Comparison(gradient([prefix_id], mixed), tokens, groups)
        rows += with_mixed.rows("shuffled_y", gradient(contexts.own[question], mixed), tokens)
        previous, previous_tokens = own, tokens
        yield rollout, rows


def token_agreement(
    model: PreTrainedModel, rollout: AlignmentRollout, context: list[int], prefix_id: int, temperature: float = 1.0
) -> list[dict]:
    """One row of tokens.parquet per response token: both log-probs, entropy given x, same argmax?"""
    model.eval()
    with_x = token_statistics(model, [context], [rollout.response], temperature)
    without = token_statistics(model, [[prefix_id]], [rollout.response], temperature)
    columns = zip(
        with_x.logprobs.tolist(),
        without.logprobs.tolist(),
        with_x.entropies.tolist(),
        (with_x.top_ids == without.top_ids).tolist(),
        strict=True,
    )
    return [
        {"position": position, "logp_yx": logp_yx, "logp_y": logp_y, "entropy_yx": entropy, "same_top1": same}
        for position, (logp_yx, logp_y, entropy, same) in enumerate(columns)
    ]
