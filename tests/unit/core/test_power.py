"""Power of the t interval against a noncentral t, and the two-stage interval by hand and by simulation."""

import math

import numpy as np
import pytest

from prerl.core.power import (
    POWER,
    power,
    seeds_to_see,
    smallest_effect,
    two_stage_interval,
    two_stage_seeds,
    visible,
)
from prerl.core.statistics import t_interval


@pytest.mark.parametrize(
    ("seeds", "effect", "expected"),
    [  # scipy 1.17.1: nct.sf(t.ppf(0.975, seeds - 1), seeds - 1, effect * sqrt(seeds))
        (3, 0.0, 0.025),
        (2, 0.5, 0.0530958569909),
        (3, 1.15, 0.2167576990478),
        (5, 0.5, 0.1384527732092),
        (5, 1.15, 0.4979359751502),
        (5, 1.68, 0.7991247281528),
        (8, 1.15, 0.7959617883255),
        (30, 0.5, 0.7539627249951),
    ],
)
def test_power_is_that_of_a_noncentral_t(seeds, effect, expected):
    assert power(effect, seeds, 0.95) == pytest.approx(expected, abs=5e-6)


def test_power_by_drawing():
    values = np.random.default_rng(0).normal(1.68, 1.0, (4000, 5))
    called = [t_interval(row, 0.95).low > 0 for row in values]
    assert np.mean(called) == pytest.approx(power(1.68, 5, 0.95), abs=0.025)


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 40])
def test_the_smallest_effect_has_80_percent_power_and_its_seeds_suffice(seeds):
    effect = smallest_effect(seeds, 0.95)
    assert power(effect, seeds, 0.95) == pytest.approx(POWER, abs=1e-9)
    assert seeds_to_see(effect * 1.0001, 0.95) == seeds_to_see(-effect * 1.0001, 0.95) == seeds
    assert seeds_to_see(effect * 0.9999, 0.95) == seeds + 1


def test_the_smallest_effect_by_an_interval_is_that_of_its_spread():
    values = [1.0, 2.0, 3.0, 4.0, 7.0]
    _, low, high = t_interval(values, 0.95)
    assert visible(low, high, 5, 0.95) == pytest.approx(smallest_effect(5, 0.95) * np.std(values, ddof=1))
    assert math.isnan(visible(math.nan, math.nan, 1, 0.95))


def test_an_effect_of_nothing_is_never_seen():
    assert seeds_to_see(0.0, 0.95) is None
    with pytest.raises(ValueError, match="at least 2"):
        power(1.0, 1, 0.95)


def test_two_stages_by_hand():
    # sd √2.5, t of 4 degrees 2.776445: (2.776445 · 1.581139 / 2)² = 4.818; / 1: 19.27
    first = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert two_stage_seeds(first, 2.0, 0.95) == 5
    assert two_stage_seeds(first, 1.0, 0.95) == 20
    # all twenty: mean 3.75; half 2.776445 · 1.581139 / √20 = 0.98162 whatever the spread of the others
    interval = two_stage_interval([*first, *[4.0] * 15], 5, 0.95)
    assert list(interval) == pytest.approx([3.75, 3.75 - 0.981621, 3.75 + 0.981621], abs=1e-6)
    assert list(two_stage_interval(first, 5, 0.95)) == list(t_interval(first, 0.95))
    for values, size in ((first, 1), (first, 6)):
        with pytest.raises(ValueError, match="first stage"):
            two_stage_interval(values, size, 0.95)
    with pytest.raises(ValueError, match="more than 0"):
        two_stage_seeds(first, 0.0, 0.95)


def test_two_stages_keep_their_width_and_their_coverage_where_looking_does_not():
    """With three first seeds: 95 % by Stein's rule, clearly less if one stops at the first narrow t interval."""
    generator = np.random.default_rng(1)
    draws, half = 3000, 1.0
    held = looked_held = 0
    for _ in range(draws):
        values = generator.normal(size=3)
        needed = two_stage_seeds(values, half, 0.95)
        interval = two_stage_interval([*values, *generator.normal(size=needed - 3)], 3, 0.95)
        assert interval.high - interval.value <= half * (1 + 1e-12)
        held += interval.low <= 0 <= interval.high
        values = list(values)
        while (looked := t_interval(values, 0.95)).high - looked.value > half:
            values.append(generator.normal())
        looked_held += looked.low <= 0 <= looked.high
    error = math.sqrt(0.95 * 0.05 / draws)
    assert held / draws == pytest.approx(0.95, abs=3.5 * error)
    assert looked_held / draws < 0.95 - 5 * error
