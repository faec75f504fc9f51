"""Intervals over seeds and questions together: what other seeds and other questions of the same kind would give.

Every seed answers the same questions, so seeds S and questions Q are crossed, and a value D_SQ is a difference of
accuracies (or one accuracy) of seed s on question q, averaged over its answers. The estimate is the unweighted mean
over strata (benchmarks) of the mean over seeds and questions.
"""

import math
from collections.abc import Sequence

import numpy as np

from prerl.core.statistics import Interval, resample_counts, t_quantile


def _by_stratum(values_SQ: np.ndarray, strata: Sequence[str]) -> list[np.ndarray]:
    """The columns of each stratum. Raises ValueError unless there are two seeds and two questions in each."""
    names = np.asarray(strata, dtype=object)
    if values_SQ.ndim != 2 or values_SQ.shape[1] != len(names) or not np.isfinite(values_SQ).all():
        raise ValueError(f"values {values_SQ.shape} for {len(names)} questions: pass finite (seeds, questions) values")
    parts = [values_SQ[:, names == name] for name in dict.fromkeys(strata)]
    if len(values_SQ) < 2 or min(part.shape[1] for part in parts) < 2:
        raise ValueError("seeds and questions are resampled: give at least two seeds and two questions a benchmark")
    return parts


def hierarchical_bootstrap(
    values_SQ: np.ndarray, strata: Sequence[str], resamples: int, confidence: float, seed: int
) -> Interval:
    """Percentile interval of resampled seeds and, crossed with them, resampled questions (Owen 2007: pigeonhole).

    A resample draws seeds with replacement, and questions within strata, the same for all its seeds. Where seeds differ
    few of them make it too narrow (resampled means spread by √((S − 1)/S) too little, and no t makes up for it); where
    only answers vary it counts their noise twice and is too wide: docs/claims.md has the numbers.
    """
    parts = _by_stratum(np.asarray(values_SQ, dtype=float), strata)
    seeds = resample_counts(["seeds"] * len(values_SQ), resamples, seed)
    counts = resample_counts(strata, resamples, seed)
    names = np.asarray(strata, dtype=object)
    means = np.zeros(resamples)
    for name, part in zip(dict.fromkeys(strata), parts, strict=True):
        by_seed = counts[:, names == name] @ part.T / part.shape[1]  # (resamples, seeds)
        means += (seeds * by_seed).sum(axis=1) / len(part) / len(parts)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.mean([part.mean() for part in parts])), float(low), float(high))


def crossed_interval(values_SQ: np.ndarray, strata: Sequence[str], confidence: float) -> Interval:
    """t interval of the two-way random-effects model: seeds and questions are samples (Clark 1973, Satterthwaite 1946).

    Variance of the estimate: that over seeds / S, plus that over questions, minus that of their interaction, which both
    hold; degrees of freedom by Satterthwaite. Not below the variance over seeds alone.

    Worked: seeds (0, 2) on one stratum of two questions without interaction, values [[0, 2], [2, 4]]: over seeds
    2/2 = 1, over questions 2/2 = 1, interaction 0; mean 2, variance 2, degrees 2² / (1²/1 + 1²/1) = 2.
    """
    parts = _by_stratum(np.asarray(values_SQ, dtype=float), strata)
    number, strata_number = len(values_SQ), len(parts)
    of_seeds = float(np.mean([part.mean(axis=1) for part in parts], axis=0).var(ddof=1)) / number
    terms = [(of_seeds, number - 1)]  # (part of the variance, its degrees of freedom)
    for part in parts:
        share, freedom = 1 / (strata_number**2 * part.shape[1]), part.shape[1] - 1
        rest = part - part.mean(axis=1, keepdims=True) - part.mean(axis=0) + part.mean()
        terms.append((share * float(part.mean(axis=0).var(ddof=1)), freedom))
        terms.append((-share * float((rest**2).sum()) / ((number - 1) * freedom) / number, (number - 1) * freedom))
    variance = max(sum(term for term, _ in terms), of_seeds)
    mean = float(np.mean([part.mean() for part in parts]))
    if variance == 0:
        return Interval(mean, mean, mean)
    freedom = max(variance**2 / sum(term**2 / own for term, own in terms), 1.0)
    half = t_quantile((1 + confidence) / 2, freedom) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)
