"""How many seeds: power of the t interval over seeds, and Stein's two-stage interval of a stated width (numpy only).

A verdict needs the whole interval on one side of the null, so its power is that of Student's one-sample t test at half
the error, on the effect's side. Effects are in standard deviations of the per-seed values.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from prerl.core.statistics import Interval, t_quantile

POWER = 0.8
MOST_SEEDS = 10_000  # beyond it no number of seeds is named


def power(effect: float, seeds: int, confidence: float) -> float:
    """Chance that the t interval of `seeds` values lies wholly on the side of the null where the true mean is.

    effect: distance of the true mean from the null in sds of the per-seed values. With s the sample sd over the true
    one (ν s² is chi-square, ν = seeds − 1) it is the mean over s of Φ(effect √seeds − t s): P(T > t), T noncentral t.

    >>> round(power(0.0, 5, 0.95), 4), round(power(1.68, 5, 0.95), 2)
    (0.025, 0.8)
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds have no interval: give at least 2")
    freedom, t = seeds - 1, t_quantile((1 + confidence) / 2, seeds - 1)
    s, step = np.linspace(0.0, 1.0 + 12.0 / math.sqrt(freedom), 4001, retstep=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_density = (freedom - 1) * np.log(s) - freedom * s**2 / 2
    if freedom == 1:
        log_density[0] = 0.0  # 0 · log 0
    density = np.exp(log_density - log_density.max())
    beyond = np.array([0.5 * math.erfc((t * x - effect * math.sqrt(seeds)) / math.sqrt(2)) for x in s])
    weights = np.full(len(s), step)
    weights[[0, -1]] /= 2  # trapezoids
    return float((weights * density * beyond).sum() / (weights * density).sum())


@cache
def smallest_effect(seeds: int, confidence: float) -> float:
    """The effect in sds that `seeds` seeds see with 80 % power.

    >>> round(smallest_effect(5, 0.95), 2)
    1.68
    """
    low, high = 0.0, 50.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, seeds, confidence) < POWER else (low, middle)
    return (low + high) / 2


def visible(low: float, high: float, seeds: int, confidence: float) -> float:
    """The effect that `seeds` seeds see with 80 % power if their spread is the true one, by their t interval.

    In the unit of the bounds: 1.35 half-widths with five seeds, 1.38 with eight. NaN without an interval.

    >>> round(visible(-1.0, 1.0, 5, 0.95), 2)
    1.35
    """
    if math.isnan(low) or math.isnan(high):
        return math.nan
    spread = (high - low) / 2 * math.sqrt(seeds) / t_quantile((1 + confidence) / 2, seeds - 1)
    return smallest_effect(seeds, confidence) * spread


def seeds_to_see(effect: float, confidence: float) -> int | None:
    """The least number of seeds that see `effect` (in sds, either sign) with 80 % power; None beyond MOST_SEEDS.

    >>> seeds_to_see(1.69, 0.95)
    5
    """
    low, high = 1, 2  # power(low) is too small (one seed has no interval), power(high) perhaps not
    while power(abs(effect), high, confidence) < POWER:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(abs(effect), middle, confidence) < POWER else (low, middle)
    return high


def two_stage_seeds(first: Sequence[float], half_width: float, confidence: float) -> int:
    """Seeds in all for an interval no wider than ± `half_width`, from those of the first stage (Stein 1945, eq. 2-4).

    N = max(n₀, ⌈(t s₀ / half_width)²⌉) with the sd s₀ of the n₀ first values and t of n₀ − 1 degrees.

    >>> two_stage_seeds([1.0, 2.0, 3.0, 4.0, 5.0], 1.0, 0.95)  # (2.7764 · √2.5)² = 19.27
    20
    """
    values = np.asarray(first, dtype=float)
    if len(values) < 2 or not half_width > 0:
        raise ValueError(f"{len(values)} first seeds and half-width {half_width}: give at least 2 and more than 0")
    t = t_quantile((1 + confidence) / 2, len(values) - 1)
    needed = (t * float(values.std(ddof=1)) / half_width) ** 2
    return max(len(values), math.ceil(needed - 1e-9))


def two_stage_interval(values: Sequence[float], first: int, confidence: float) -> Interval:
    """Mean of all values, with the spread and the degrees of freedom of the first `first` alone.

    The number of the others may depend on the spread of the first, by `two_stage_seeds` or otherwise, never on their
    mean: given the spread the mean of all is normal, so the coverage is exact for normal values.
    """
    numbers = np.asarray(values, dtype=float)
    if not 2 <= first <= len(numbers):
        raise ValueError(f"first stage of {first} among {len(numbers)} seeds: give at least 2 and at most all")
    mean, spread = float(numbers.mean()), float(numbers[:first].std(ddof=1))
    half = t_quantile((1 + confidence) / 2, first - 1) * spread / math.sqrt(len(numbers))
    return Interval(mean, mean - half, mean + half)
