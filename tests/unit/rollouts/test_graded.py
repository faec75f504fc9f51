"""Metrics of rollouts whose rewards lie between 0 and 1 and have parts, by hand."""

from dataclasses import replace

import pytest
import torch

from prerl.rollouts.graded import GradedRollouts, update_metrics
from prerl.rollouts.interface import Rollout


def test_right_is_above_one_half_and_parts_are_means():
    graded = GradedRollouts(
        contexts=[[1]] * 2 + [[2, 3]] * 2 + [[4]] * 2,
        rollouts=[Rollout([5, 0], [-0.5, -0.5], "stop")] * 6,
        rewards_R=torch.tensor([0.75, 1.0, 0.5, 0.25, 0.0, 0.75]),
        groups_R=torch.tensor([0, 0, 1, 1, 2, 2]),
        reflections=[0] * 6,
        transitions=[0] * 6,
        parts={"right": [0.5, 0.75, 0.25, 0.0, 0.0, 0.5]},
    )
    metrics = update_metrics(graded)
    assert metrics["reward_mean"] == pytest.approx(3.25 / 6) and metrics["reward_right"] == pytest.approx(2.0 / 6)
    solved = [metrics[f"prompts_{name}"] for name in ("solved", "unsolved", "any_solved")]
    assert solved == pytest.approx([1 / 3, 1 / 3, 2 / 3])  # 0.75 and 1 | 0.5 and 0.25 | 0 and 0.75
    assert graded.of_prompts(1, 2).parts == {"right": [0.25, 0.0, 0.0, 0.5]}
    assert set(metrics) - set(update_metrics(replace(graded, parts={}))) == {"reward_right"}
