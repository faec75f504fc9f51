"""How long sampled answers are assumed to be, before anything has run.

Grades as in planning/machines.py: M measured in the miniature, P published by others, D our assumption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ANSWER_SHARE = 0.3
"""Of a model of CPUs: mean answer over the longest allowed. M: 0.29 in training, 0.33 in evaluation."""
ANSWER_TOKENS = {"all": 1500, "positive": 1500, "negative": 3000, "validation": 4000, "evaluation": 2000, "ood": 1700}
"""Mean answer of a hub model if none were cut: over a training phase by its samples, and elsewhere.

P: 838 of Qwen3-4B without thinking on MMLU-Pro, and RL of Qwen3-4B-Base makes 1,241 of 825 (arXiv 2505.21493). D, with
that in mind: 1.8 x 838 in training; twice that where negative samples alone count, whose answers the paper calls
over-long (1.3 times GRPO's in the miniature); more on competition problems. M: after a warm-up DSRL's answers are as
long as GRPO's within ten updates (the miniature's figure_dynamics)."""

UNTRAINED_TOKENS, SHORT_RUN_UPDATES = 1000, 100
"""Everywhere in a run that is too short to change lengths much. D: 1.2 x 838; 100 updates."""


@dataclass(frozen=True)
class Answers:
    """Lengths of answers in tokens: their mean, the mean position of a token in its answer, the longest allowed."""

    mean: float
    position: float
    longest: int


def answers_of(block: Mapping, model: str, kind: str, longest: int) -> Answers:
    """Answers of at most `longest` tokens. block: the scale's; kind: a key of ANSWER_TOKENS."""
    if "generated" in block["models"][model]:
        return Answers(ANSWER_SHARE * longest, ANSWER_SHARE * longest / 2, longest)
    short = block["training"]["total_updates"] < SHORT_RUN_UPDATES
    return exponential_answers(UNTRAINED_TOKENS if short else ANSWER_TOKENS[kind], longest)


def exponential_answers(mean: float, longest: int) -> Answers:
    """Answers of exponential length with this mean, cut at `longest`.

    exponential_answers(2000, 8192): mean 1967, position 1835 (2000 and 2000 if none were cut: long answers have most of
    the tokens).
    """
    ratio = longest / mean
    uncut = math.exp(-ratio)
    position = mean * (1 - uncut * (1 + ratio)) / (1 - uncut)
    return Answers(mean * (1 - uncut), position, longest)
