"""Metrics of an update's rollouts, by hand."""

import pytest
import torch

from prerl.rollouts.graded import GradedRollouts, update_metrics
from prerl.rollouts.interface import Rollout


def test_metrics_of_two_prompts_by_hand():
    """Prompts of 3 and 5 tokens, two answers each, of 1, 2, 3 and 4 tokens; one answer of the first is right."""
    rollouts = [Rollout([7] * n, [-0.5] * n, "stop" if n < 4 else "length") for n in (1, 2, 3, 4)]
    contexts = [[1] * 3, [1] * 3, [2] * 5, [2] * 5]
    rewards, groups = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1])
    metrics = update_metrics(GradedRollouts(contexts, rollouts, rewards, groups, [0, 1, 0, 1], [4, 0, 0, 0]))
    assert metrics == {
        "reward_mean": 0.25,
        "prompts_solved": 0.0,
        "prompts_unsolved": 0.5,
        "prompts_any_solved": 0.5,
        "truncation_rate": 0.25,
        "response_tokens_mean": 2.5,
        "entropy_nats": pytest.approx(0.5),
        "transitions_per_answer": 1.0,
        "reflections_per_answer": 0.5,
        "tokens_sampled": 10,
        "prompt_tokens": 8,
    }
