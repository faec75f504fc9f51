"""Coverage of the intervals by simulation: how often a 95 % interval holds the truth, in designs like the claims'.

The intervals are the library's own functions. Truths are known by construction; of the efficiency claim's ratio it is
the mean over the population of seeds that is drawn from. A share has a standard error of √(0.95 · 0.05 / draws).
docs/claims.md has the table; test_interval_coverage.py repeats some of its rows with fewer draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

import harness
from prerl.core import statistics, two_level
from prerl.core.power import two_stage_interval, two_stage_seeds
from prerl.core.statistics import Interval, bootstrap_mean, median_interval, resample_counts, t_interval

CONFIDENCE = 0.95
SEEDS = (3, 5, 8)
RESAMPLES = 1000
Row = tuple[str, int, str, list[Interval], float]  # design, seeds, interval, one interval a draw, the truth


def differences(generator: np.random.Generator, shape: tuple[int, int], kind: str) -> tuple[np.ndarray, float]:
    """Per-seed differences of sd about 1, (draws, seeds), and their true mean."""
    normal = generator.normal(size=shape)
    if kind == "normal":
        return normal, 0.0
    if kind == "skewed (exponential)":
        return generator.exponential(size=shape), 1.0
    assert kind == "one seed in five fails", kind
    return np.where(generator.random(shape) < 0.2, normal - 5.0, normal), -1.0


def thought_ratios(generator: np.random.Generator, shape: tuple[int, int], base: float) -> tuple[np.ndarray, float]:
    """Logs of smoothed ratios of counts: `base` thoughts before, 4.8 times as many after, sd of the log 0.35."""
    logs = generator.normal(math.log(4.8), 0.35, shape)
    before, after = generator.poisson(base, shape), generator.poisson(base * np.exp(logs))
    return np.log((after + 0.5) / (before + 0.5)), math.log(4.8)


@cache
def efficiency_population(size: int) -> np.ndarray:
    """Per-seed logs of updates of GRPO over updates of DSRL to half of GRPO's gain, by the claim's own rule."""
    import pandas as pd

    from prerl.publishing.claims import first_reach

    generator = np.random.default_rng(7)
    updates = np.array([0, 5, 10, 15, 20, 25, 30, 40, 50, 60])
    found = []
    for middles in zip(generator.normal(15, 3, size), generator.normal(27, 5, size), strict=True):
        shares = [0.14 + 0.7 / (1 + np.exp(-(updates - middle) / 4)) for middle in middles]
        grpo, dsrl = (pd.Series(generator.binomial(480, share) / 480, updates) for share in shares)
        target = grpo.iloc[0] + (grpo.iloc[-1] - grpo.iloc[0]) / 2
        found.append(math.log(min(first_reach(grpo, target), 61) / min(first_reach(dsrl, target), 61)))
    return np.array(found)


def median_of(make: Callable) -> float:
    """The population's median, from 400,000 of its seeds."""
    values, _ = make(np.random.default_rng(11), (400_000, 1))
    return float(np.median(values))


def over_seeds(draws: int) -> Iterator[Row]:
    """The registered interval on per-seed values of several shapes."""
    makers: dict[str, Callable] = {
        f"difference, {kind}": lambda generator, shape, kind=kind: differences(generator, shape, kind)
        for kind in ("normal", "skewed (exponential)", "one seed in five fails")
    }
    for base in (150, 3):
        makers[f"ratio of thoughts, {base} before"] = lambda generator, shape, base=base: thought_ratios(
            generator, shape, base
        )
    population = efficiency_population(max(draws // 2, 2000))
    makers["ratio of updates (efficiency)"] = lambda generator, shape: (
        generator.choice(population, shape),
        float(population.mean()),
    )
    for design, make in makers.items():
        for seeds in SEEDS:
            values, truth = make(np.random.default_rng([seeds, 1]), (draws, seeds))
            yield design, seeds, "t over seeds (registered)", [t_interval(row, CONFIDENCE) for row in values], truth
            if seeds == 8:
                ranks = [median_interval(row, CONFIDENCE) for row in values]
                yield design, seeds, "median: 2nd to 7th of 8", ranks, median_of(make)


DESIGNS = {  # name -> questions of each benchmark; sds in pp: of seeds, of questions, of a seed's answers to a question
    "3 x 60 questions, seeds differ": ((60, 60, 60), 5.0, 5.0, 20.0),
    "3 x 60 questions, only answers vary much": ((60, 60, 60), 1.0, 5.0, 20.0),
    "3 x 60 questions that differ": ((60, 60, 60), 1.0, 20.0, 20.0),
    "30 + 30 + 40 questions that differ": ((30, 30, 40), 1.0, 20.0, 10.0),
}


def crossed_values(generator: np.random.Generator, design: str, seeds: int) -> tuple[np.ndarray, list[str]]:
    """Differences (seeds, questions) in pp with true mean 0 over seeds and questions, and each question's benchmark."""
    sizes, of_seeds, of_questions, of_answers = DESIGNS[design]
    strata = [name for name, size in zip("abc", sizes, strict=True) for _ in range(size)]
    values = generator.normal(0, of_seeds, (seeds, 1)) + generator.normal(0, of_questions, (1, len(strata)))
    return values + generator.normal(0, of_answers, (seeds, len(strata))), strata


def other_questions(draws: int) -> Iterator[Row]:
    """Four intervals of one mean, asked about other seeds and other questions of the same kind."""
    intervals: dict[str, Callable[[np.ndarray, list[str]], Interval]] = {
        "t over seeds (registered)": lambda values, strata: t_interval(
            np.mean([values[:, np.array(strata) == name].mean(axis=1) for name in "abc"], axis=0), CONFIDENCE
        ),
        "bootstrap over questions": lambda values, strata: bootstrap_mean(
            values.mean(axis=0), strata, RESAMPLES, CONFIDENCE, 0
        ),
        "hierarchical bootstrap": lambda values, strata: two_level.hierarchical_bootstrap(
            values, strata, RESAMPLES, CONFIDENCE, 0
        ),
        "crossed t": lambda values, strata: two_level.crossed_interval(values, strata, CONFIDENCE),
    }
    for design in DESIGNS:
        for seeds in SEEDS:
            generator = np.random.default_rng([seeds, 2])
            data = [crossed_values(generator, design, seeds) for _ in range(draws)]
            for name, interval in intervals.items():
                yield design, seeds, name, [interval(*drawn) for drawn in data], 0.0


def until_narrow(generator: np.random.Generator, first: int, half_width: float) -> tuple[Interval, Interval, int, int]:
    """One study that adds seeds to the stated width: by Stein's rule, and by looking at the t interval after each."""
    values = list(generator.normal(size=first))
    needed = two_stage_seeds(values, half_width, CONFIDENCE)
    more = list(generator.normal(size=max(needed, 400) - first))
    both = values + more
    looked = first
    while (found := t_interval(both[:looked], CONFIDENCE)).high - found.value > half_width and looked < len(both):
        looked += 1
    return two_stage_interval(both[:needed], first, CONFIDENCE), found, needed, looked


def sequential(draws: int) -> Iterator[tuple[Row, float]]:
    """Both ways of adding seeds, and the mean number of seeds that each took."""
    for first, half_width in ((3, 1.0), (5, 1.0), (5, 0.5)):
        generator = np.random.default_rng([first, 3])
        studies = [until_narrow(generator, first, half_width) for _ in range(draws)]
        design = f"seeds added until ± {half_width} sd"
        for place, name in enumerate(("two stages (Stein)", "t interval looked at after each seed")):
            row = (design, first, name, [study[place] for study in studies], 0.0)
            yield row, float(np.mean([study[2 + place] for study in studies]))


def coverage(intervals: list[Interval], truth: float) -> float:
    """Share in % of the intervals that hold the truth."""
    return 100.0 * float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


def line(row: Row, mean_seeds: float | None = None) -> list[str]:
    """A line of the table."""
    design, seeds, name, intervals, truth = row
    half = float(np.mean([interval.high - interval.low for interval in intervals])) / 2
    used = str(seeds) if mean_seeds is None else f"{seeds}, then {mean_seeds:.1f} on average"
    return [design, used, name, f"{coverage(intervals, truth):.1f}", f"{half:.2f}"]


def share_resamples() -> None:
    """From now on resamples of the same strata are drawn once: the same numbers as otherwise, in less time."""
    counts = cache(lambda strata, resamples, seed: resample_counts(list(strata), resamples, seed))
    for module in (statistics, two_level):
        module.resample_counts = lambda strata, resamples, seed: counts(tuple(strata), resamples, seed)


def main() -> None:
    quick = harness.quick(__doc__.splitlines()[0])
    share_resamples()
    many, few = (1000, 200) if quick else (20_000, 4000)
    lines = [line(row) for row in over_seeds(many)]
    lines += [line(row) for row in other_questions(few)]
    lines += [line(row, mean_seeds) for row, mean_seeds in sequential(few)]
    harness.report(
        __file__,
        "Coverage of 95 % intervals",
        f"{many:,} draws over seeds, {few:,} over seeds and questions and of added seeds.",
        harness.table(["design", "seeds", "interval", "coverage (%)", "mean half-width"], lines),
    )


if __name__ == "__main__":
    main()
