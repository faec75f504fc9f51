"""Intervals over seeds and questions: by hand, against naive loops, and their coverage by simulation."""

import math

import numpy as np
import pytest

from prerl.core.statistics import resample_counts, t_interval, t_quantile
from prerl.core.two_level import crossed_interval, hierarchical_bootstrap

STRATA = ["a", "a", "a", "b", "b"]


def test_the_crossed_interval_by_hand():
    # no interaction: variance 2/2 over seeds + 2/2 over questions, 2 degrees of freedom; t 4.302653
    interval = crossed_interval(np.array([[0.0, 2.0], [2.0, 4.0]]), ["a", "a"], 0.95)
    half = 4.302653 * math.sqrt(2)
    assert list(interval) == pytest.approx([2.0, 2 - half, 2 + half], abs=1e-5)


def test_the_crossed_interval_is_that_of_a_naive_two_way_anova():
    values = np.random.default_rng(0).normal(size=(4, 6)) + 3 * np.arange(4)[:, None] + np.arange(6)
    seeds, questions = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    square = {
        "seeds": sum(questions * (row - values.mean()) ** 2 for row in rows) / (seeds - 1),
        "questions": sum(seeds * (column - values.mean()) ** 2 for column in columns) / (questions - 1),
        "both": sum(
            (values[s, q] - rows[s] - columns[q] + values.mean()) ** 2 for s in range(seeds) for q in range(questions)
        )
        / ((seeds - 1) * (questions - 1)),
    }
    variance = (square["seeds"] + square["questions"] - square["both"]) / (seeds * questions)
    freedom = {"seeds": seeds - 1, "questions": questions - 1, "both": (seeds - 1) * (questions - 1)}
    degrees = variance**2 / sum((square[k] / (seeds * questions)) ** 2 / freedom[k] for k in square)
    half = t_quantile(0.975, degrees) * math.sqrt(variance)
    expected = [values.mean(), values.mean() - half, values.mean() + half]
    assert list(crossed_interval(values, ["a"] * 6, 0.95)) == pytest.approx(expected)


def test_questions_that_all_agree_leave_the_interval_over_seeds():
    by_seed = np.array([1.0, 4.0, 2.0, 5.0])
    values = np.repeat(by_seed[:, None], 5, axis=1)
    assert list(crossed_interval(values, STRATA, 0.95)) == pytest.approx(list(t_interval(by_seed, 0.95)))
    assert list(crossed_interval(np.full((3, 5), 2.0), STRATA, 0.95)) == [2.0, 2.0, 2.0]


def test_the_hierarchical_bootstrap_is_that_of_naive_loops():
    values = np.random.default_rng(1).normal(size=(3, 5))
    seeds, counts = resample_counts(["seeds"] * 3, 50, 4), resample_counts(STRATA, 50, 4)
    means = []
    for resample in range(50):
        drawn = [s for s in range(3) for _ in range(seeds[resample, s])]
        sides = []
        for name in "ab":
            chosen = [q for q in range(5) if STRATA[q] == name for _ in range(counts[resample, q])]
            sides.append(np.mean([values[s, q] for s in drawn for q in chosen]))
        means.append(np.mean(sides))
    interval = hierarchical_bootstrap(values, STRATA, 50, 0.9, seed=4)
    assert interval.value == pytest.approx((values[:, :3].mean() + values[:, 3:].mean()) / 2)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


def test_the_order_of_seeds_and_of_questions_in_a_benchmark_does_not_count():
    values = np.random.default_rng(2).normal(size=(4, 5))
    shuffled = values[[2, 0, 3, 1]][:, [2, 0, 1, 4, 3]]
    assert list(crossed_interval(shuffled, STRATA, 0.95)) == pytest.approx(list(crossed_interval(values, STRATA, 0.95)))


@pytest.mark.parametrize("interval", [crossed_interval, lambda *given: hierarchical_bootstrap(*given[:2], 10, 0.95, 0)])
@pytest.mark.parametrize(
    ("values", "strata"),
    [
        (np.zeros((1, 5)), STRATA),
        (np.zeros((3, 4)), ["a", "a", "a", "b"]),
        (np.zeros((3, 4)), STRATA),
        (np.full((3, 5), np.nan), STRATA),
    ],
)
def test_too_little_to_resample_is_an_error(interval, values, strata):
    with pytest.raises(ValueError, match="two seeds and two questions|pass finite"):
        interval(values, strata, 0.95)
