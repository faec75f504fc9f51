"""Accuracy, unbiased pass@k and intervals: bootstrap over questions, Student t over seeds (numpy only).

Shapes: Q questions, M metrics, B bootstrap resamples, N rows. Arrays are float64. Shares lie in [0, 1].
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with the bounds of its confidence interval; each a float or an array (M,)."""

    value: Any
    low: Any
    high: Any


def avg_at_k(answers: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Share of right answers of each question (avg@k is its mean over questions); (Q,) each, `answers` ≥ 1.

    >>> avg_at_k(np.array([4, 4]), np.array([1, 4])).tolist()
    [0.25, 1.0]
    """
    answers, correct = _checked_counts(answers, correct)
    return correct / answers


def pass_at_k(answers: np.ndarray, correct: np.ndarray, k: int) -> np.ndarray:
    """Unbiased pass@k of each question: 1 − C(n − c, k) / C(n, k) (Chen et al. 2107.03374, eq. 1); (Q,).

    Computed as 1 − ∏_{j<k} (n − c − j) / (n − j): no overflow at any n, and exactly 1 once n − c < k (a factor is 0).

    >>> pass_at_k(np.array([4]), np.array([1]), 2).tolist()  # 1 − C(3, 2) / C(4, 2) = 1 − 3 / 6
    [0.5]
    """
    answers, correct = _checked_counts(answers, correct)
    if k < 1 or np.any(answers < k):
        raise ValueError(
            f"pass@{k} needs 1 <= k <= n, and a question has n = {int(answers.min())} answers: lower k or sample more"
        )
    j = np.arange(k)[:, None]
    all_wrong = np.prod((answers - correct - j) / (answers - j), axis=0)
    return 1.0 - all_wrong


def _checked_counts(answers: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    answers, correct = np.asarray(answers, dtype=float), np.asarray(correct, dtype=float)
    if answers.shape != correct.shape or answers.ndim != 1 or answers.size == 0:
        raise ValueError(f"answers {answers.shape} and correct {correct.shape}: pass two equal non-empty (Q,) arrays")
    if np.any(answers < 1) or np.any(correct < 0) or np.any(correct > answers):
        raise ValueError("a question needs n >= 1 answers and 0 <= correct <= n: check the grades for missing samples")
    return answers, correct


def resample_counts(strata: Sequence[str], resamples: int, seed: int) -> np.ndarray:
    """How often each question is drawn in each resample, drawn with replacement within its stratum; int (B, Q).

    A stratum's draws depend on `seed`, its name and its size alone: two methods over the same questions in the same
    order share them (pairing), and adding a benchmark leaves the others' intervals as they were.
    """
    if resamples < 1 or len(strata) == 0:
        raise ValueError(f"{resamples} resamples of {len(strata)} questions: both must be at least 1")
    names = np.asarray(strata, dtype=object)
    counts = np.empty((resamples, len(names)), dtype=np.int64)
    for name in dict.fromkeys(strata):
        members = np.flatnonzero(names == name)
        generator = np.random.default_rng([seed, *str(name).encode()])
        shares = np.full(len(members), 1.0 / len(members))
        counts[:, members] = generator.multinomial(len(members), shares, size=resamples)
    return counts


def bootstrap_ratio(
    numerators: np.ndarray, denominators: np.ndarray, strata: Sequence[str], counts: np.ndarray, confidence: float
) -> Interval:
    """Unweighted mean over strata of Σ numerators / Σ denominators, with its percentile interval over questions.

    With denominators of 1 it is the mean of the strata's means (avg@k, pass@k); with answers or tokens it is a rate
    whose answers cluster by question.

    Args:
        numerators, denominators: (Q,) or (Q, M), finite, denominators above 0.
        strata: (Q,) name of each question's benchmark.
        counts: (B, Q) from `resample_counts(strata, …)`.
        confidence: such as 0.95.

    Returns:
        value, low, high: () or (M,). The bounds are NaN if a stratum has one question: resampling it shows nothing.
    """
    numerators, denominators = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: give a share between 0 and 1, such as 0.95")
    if not (len(numerators) == len(denominators) == len(strata) == counts.shape[1]):
        raise ValueError("numerators, denominators, strata and counts disagree in the number of questions: align them")
    if not (np.isfinite(numerators).all() and np.isfinite(denominators).all() and (denominators > 0).all()):
        raise ValueError("a question has a non-finite value or a denominator of 0: check for questions without answers")
    weights = np.concatenate([np.ones((1, counts.shape[1])), counts])  # row 0 is the estimate itself
    names = np.asarray(strata, dtype=object)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(strata)]
    ratios = [(weights[:, m] @ numerators[m]) / (weights[:, m] @ denominators[m]) for m in members]
    means = np.mean(ratios, axis=0)
    low, high = np.quantile(means[1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    if min(len(m) for m in members) < 2:
        low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
    return Interval(means[0], low, high)


def bootstrap_mean(values: np.ndarray, strata: Sequence[str], resamples: int, confidence: float, seed: int) -> Interval:
    """Unweighted mean over benchmarks of the mean over their questions, with its interval over questions.

    `values`: (Q,) or (Q, M), one value a question; `strata`: (Q,) the benchmark of each (all equal for one benchmark).
    """
    values = np.asarray(values, dtype=float)
    counts = resample_counts(strata, resamples, seed)
    return bootstrap_ratio(values, np.ones_like(values), strata, counts, confidence)


def paired_bootstrap_difference(
    first: np.ndarray, second: np.ndarray, strata: Sequence[str], resamples: int, confidence: float, seed: int
) -> Interval:
    """`first` − `second` of two methods over the same questions in the same order; otherwise as `bootstrap_mean`."""
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape}: a paired difference needs the same questions in both")
    return bootstrap_mean(first - second, strata, resamples, confidence, seed)


def cluster_bootstrap_mean(
    values: np.ndarray, clusters: Sequence[str], resamples: int, confidence: float, seed: int
) -> Interval:
    """Mean over all N rows, with the interval that resamples whole clusters (the questions of the rollouts).

    `values`: (N,) or (N, M); `clusters`: (N,) id of each row's question. Clusters may differ in size.
    """
    values = np.asarray(values, dtype=float)
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} cluster ids: pass one id per value")
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, index, values)
    sizes = np.broadcast_to(np.bincount(index).astype(float).reshape(-1, *[1] * (values.ndim - 1)), sums.shape)
    strata = [""] * len(names)
    return bootstrap_ratio(sums, sizes, strata, resample_counts(strata, resamples, seed), confidence)


def regularised_incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) for a, b > 0 and 0 ≤ x ≤ 1: continued fraction of DLMF 8.17.22 by Lentz's method; error below 1e-12."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast on the other side only
        return 1.0 - regularised_incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    numerator, denominator = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    fraction = denominator
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1.0 / (1.0 + even * denominator)
        numerator = 1.0 + even / numerator
        fraction *= denominator * numerator
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        denominator = 1.0 / (1.0 + odd * denominator)
        numerator = 1.0 + odd / numerator
        fraction *= denominator * numerator
        if abs(denominator * numerator - 1.0) < 1e-15:
            return front * fraction / a
    raise ArithmeticError(f"I_x({a}, {b}) at x={x} did not converge: this function is not made for such arguments")


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t with `freedom` > 0 degrees of freedom, by bisection of its exact distribution function.

    >>> round(t_quantile(0.975, 4), 4)
    2.7764
    """
    if not 0.0 < probability < 1.0 or not freedom > 0:
        raise ValueError(f"t quantile of p = {probability} with {freedom} degrees: give 0 < p < 1 and freedom > 0")
    if probability < 0.5:
        return -t_quantile(1.0 - probability, freedom)
    tail = 1.0 - probability  # upper tail P(T > t) = I_{freedom / (freedom + t²)}(freedom / 2, 1/2) / 2

    def tail_above(t: float) -> float:
        return 0.5 * regularised_incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))

    low, high = 0.0, 1.0
    while tail_above(high) > tail:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if tail_above(middle) > tail else (low, middle)
    return middle


def t_interval(differences: Sequence[float], confidence: float) -> Interval:
    """Mean of paired per-seed differences with its Student t interval (n − 1 degrees, sd with ddof 1).

    With fewer than two seeds the bounds are NaN (unknown, not zero width); with none the value too.
    """
    values = np.asarray(differences, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"per-seed differences {values.tolist()} are not all finite: a seed is missing a measurement")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: give a share between 0 and 1, such as 0.95")
    if len(values) < 2:
        return Interval(float(values[0]) if len(values) else math.nan, math.nan, math.nan)
    mean = float(values.mean())
    half = t_quantile((1 + confidence) / 2, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def median_interval(values: Sequence[float], confidence: float) -> Interval:
    """Median with the order statistics whose coverage is nearest to `confidence`, for any continuous distribution.

    The r-th lowest to the r-th highest of n values hold the median with probability 1 − 2 P(Bin(n, 1/2) < r): 93.75 %
    for all of five, 92.97 % for the second to the seventh of eight. NaN bounds below 90 % (four values or fewer).

    >>> median_interval([5.0, 1.0, 2.0, 9.0, 3.0], 0.95)
    Interval(value=3.0, low=1.0, high=9.0)
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    number = len(ordered)
    beyond = np.cumsum([math.comb(number, below) for below in range(number // 2)]) / 2**number
    coverages = 1 - 2 * beyond
    value = float(np.median(ordered)) if number else math.nan
    if not len(coverages) or coverages[0] < 0.9:
        return Interval(value, math.nan, math.nan)
    rank = int(np.argmin(abs(coverages - confidence)))
    return Interval(value, float(ordered[rank]), float(ordered[-1 - rank]))


def log_count_ratio(count: float, reference_count: float) -> float:
    """ln((count + 1/2) / (reference_count + 1/2)): finite at zero counts, antisymmetric, 0 for equal counts.

    For counts over equal numbers of answers. `math.exp` of a mean or bound of these gives the ratio ("14.89×") back.
    """
    if not (count >= 0 and reference_count >= 0):
        raise ValueError(f"counts {count} and {reference_count} must be 0 or more: check the thoughts table")
    return math.log((count + 0.5) / (reference_count + 0.5))
