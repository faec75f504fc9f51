"""The paper's claims as scalars: one finite number per seed, its contrast and its null (verdicts.py: the rows).

docs/claims.md is the contract; this module and verdicts.py are its code. Accuracies are Hendrycks-graded, differences
are in percentage points, ratios are measured as natural logarithms per seed and reported as ratios.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from prerl.core.constants import BASE, MEAN
from prerl.core.statistics import Interval, log_count_ratio
from prerl.evaluation import results
from prerl.evaluation.contrasts import by_seed_and_question
from prerl.evaluation.results import NotMeasured
from prerl.publishing import alignment, paper

POINTS = 100.0
COLLAPSE_SHARE = paper.COLLAPSE_UPDATE / paper.UPDATES
SOLVED_WINDOW = 5


@dataclass(frozen=True)
class Evidence:
    """What the claims are computed from: for each model a table with a column `seed`."""

    settings: dict
    questions: dict[str, pd.DataFrame]
    scores: dict[str, pd.DataFrame]
    curves: dict[str, pd.DataFrame]
    ood: dict[str, pd.DataFrame]  # answers to the out-of-distribution questions, prerl.evaluation.ood_scores
    gradients: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Scalar:
    """One value per seed; `n`: answers (rollouts, prompts) behind it, all arms and seeds.

    `arms`: for a difference of accuracies, both sides' accuracies by question (`contrasts.by_question`), else None.
    `interval`: of a claim whose unit is the question; None: the t interval over seeds.
    """

    values: pd.Series
    n: int
    arms: tuple[pd.Series, pd.Series] | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Claim:
    """A row of the claims table: the paper's `side` of `null`, the methods and what it reads (alignment, answers …)."""

    name: str
    measure: Callable[[Evidence], Scalar]
    side: str
    null: float
    methods: tuple[str, ...]
    reads: str
    is_ratio: bool = False
    model_index: int = 0
    early: bool = False

    @property
    def stated(self) -> paper.Stated:
        """What the paper states about it."""
        return paper.CLAIMS[self.name]


def _first_model(evidence: Evidence) -> str:
    return evidence.settings["models"][0]


def _answers(evidence: Evidence, model: str, method: str, update: int, benchmarks: list[str]) -> pd.DataFrame:
    return results.evaluated(evidence.questions[model], evidence.settings, method, update, benchmarks)


def _end_answers(evidence: Evidence, model: str, method: str, benchmarks: list[str]) -> pd.DataFrame:
    return _answers(evidence, model, method, results.end_update(evidence.settings, method), benchmarks)


def _points(arm: pd.DataFrame, reference: pd.DataFrame) -> Scalar:
    """Paired accuracy difference of two sets of answers, percentage points by seed."""
    difference = POINTS * (results.accuracy(arm) - results.accuracy(reference))
    arms = (by_seed_and_question(arm), by_seed_and_question(reference))
    return Scalar(difference, int(arm["n"].sum() + reference["n"].sum()), arms)


def _end_difference(
    evidence: Evidence, arm: str, reference: str, benchmarks: list[str], model_index: int = 0
) -> Scalar:
    models = evidence.settings["models"]
    if model_index >= len(models):
        raise NotMeasured("this scale has one model")
    model = models[model_index]
    return _points(_end_answers(evidence, model, arm, benchmarks), _end_answers(evidence, model, reference, benchmarks))


def _gradients(evidence: Evidence) -> pd.DataFrame:
    return alignment.of_first_benchmark(evidence.gradients[_first_model(evidence)], evidence.settings)


def alignment_cosine(evidence: Evidence) -> Scalar:
    """Mean over rollouts of the cosine of ∇log P(y|x) and ∇log P(y)."""
    cosines = alignment.per_rollout(_gradients(evidence), "own_x", "cosine")
    return Scalar(cosines.groupby("seed").mean(), len(cosines))


def alignment_excess(evidence: Evidence) -> Scalar:
    """Mean over rollouts of the cosine with the own x minus the mean of those with another problem's x."""
    values = alignment.excess(_gradients(evidence))
    interval = alignment.over_questions(values, evidence.settings)
    return Scalar(values.groupby("seed").mean(), len(values), interval=interval)


def _thought_ratio(evidence: Evidence, column: str) -> Scalar:
    """log of thoughts per answer, NSR-PreRL at the reference update against the base, +0.5 in both counts."""
    model, main = _first_model(evidence), evidence.settings["main_benchmarks"]
    after = _answers(evidence, model, "nsr_prerl", evidence.settings["reference_updates"]["nsr"], main)
    before = _answers(evidence, model, BASE, 0, main)
    sums = [rows.groupby("seed")[[column, "n"]].sum() for rows in (after, before)]
    ratios = {
        seed: log_count_ratio(sums[0].loc[seed, column], sums[1].loc[seed, column])
        - math.log(sums[0].loc[seed, "n"] / sums[1].loc[seed, "n"])
        for seed in evidence.settings["seeds"]
    }
    return Scalar(pd.Series(ratios), int(after["n"].sum() + before["n"].sum()))


def transitions(evidence: Evidence) -> Scalar:
    """log ratio of transition thoughts per answer."""
    return _thought_ratio(evidence, "transitions")


def reflections(evidence: Evidence) -> Scalar:
    """log ratio of reflection thoughts per answer."""
    return _thought_ratio(evidence, "reflections")


def nsr_fast(evidence: Evidence) -> Scalar:
    """accuracy(NSR-PreRL at 20) − accuracy(GRPO at 60), both updates from `reference_updates`."""
    model, main = _first_model(evidence), evidence.settings["main_benchmarks"]
    at = evidence.settings["reference_updates"]
    return _points(
        _answers(evidence, model, "nsr_prerl", at["nsr"], main), _answers(evidence, model, "grpo", at["rl"], main)
    )


def _validation(evidence: Evidence, method: str, model: str | None = None) -> pd.DataFrame:
    curves = evidence.curves[model or _first_model(evidence)]
    return results.curve(curves, evidence.settings, method, "accuracy", "validation", MEAN).dropna()


def _validation_answers(evidence: Evidence, points: int) -> int:
    """Answers behind `points` validations, all seeds."""
    return points * evidence.settings["validation_answers"] * len(evidence.settings["seeds"])


def prerl_collapse(evidence: Evidence) -> Scalar:
    """Validation accuracy of PreRL at its end − at 150/348 of its run (nearest validation, the earlier of two)."""
    accuracy = _validation(evidence, "prerl")
    end = results.end_update(evidence.settings, "prerl")
    if end not in accuracy.index:
        raise ValueError(f"prerl has no validation at its last update {end}: add it to the validation updates")
    distance = pd.Series(abs(accuracy.index - COLLAPSE_SHARE * end), index=accuracy.index)
    middle = distance.idxmin()
    if middle == end:
        raise NotMeasured("PreRL was not validated near 150/348 of its run")
    return Scalar(POINTS * (accuracy.loc[end] - accuracy.loc[middle]), _validation_answers(evidence, 2))


def psr_degrades(evidence: Evidence) -> Scalar:
    """accuracy(PSR-PreRL at its end) − accuracy(base)."""
    return _end_difference(evidence, "psr_prerl", BASE, evidence.settings["main_benchmarks"])


def nsr_long(evidence: Evidence) -> Scalar:
    """log ratio of mean response tokens, NSR-PreRL at its end against GRPO at its end."""
    model, main = _first_model(evidence), evidence.settings["main_benchmarks"]
    long, reference = _end_answers(evidence, model, "nsr_prerl", main), _end_answers(evidence, model, "grpo", main)
    ratio = results.response_tokens(long) / results.response_tokens(reference)
    return Scalar(np.log(ratio), int(long["n"].sum() + reference["n"].sum()))


def main_4b(evidence: Evidence) -> Scalar:
    """accuracy(DSRL) − accuracy(GRPO), first model."""
    return _end_difference(evidence, "dsrl", "grpo", evidence.settings["main_benchmarks"])


def main_8b(evidence: Evidence) -> Scalar:
    """accuracy(DSRL) − accuracy(GRPO), second model."""
    return _end_difference(evidence, "dsrl", "grpo", evidence.settings["main_benchmarks"], model_index=1)


def warmup_space(evidence: Evidence) -> Scalar:
    """accuracy(DSRL) − accuracy(NSR-RL warm-up, then GRPO)."""
    return _end_difference(evidence, "dsrl", "nsr_rl_warmup", evidence.settings["main_benchmarks"])


def first_reach(accuracy: pd.Series, target: float) -> float:
    """Update at which `accuracy` (indexed by update) first reaches `target`, interpolated linearly, at least 1.

    inf if it never does. Worked: accuracies 0.1, 0.3, 0.7 at updates 0, 10, 20 reach 0.5 at update 15.
    """
    updates, values = accuracy.index.to_numpy(dtype=float), accuracy.to_numpy()
    reached = np.flatnonzero(values >= target)
    if reached.size == 0:
        return math.inf
    after = reached[0]
    if after == 0:
        return max(updates[0], 1.0)
    before = after - 1
    share = (target - values[before]) / (values[after] - values[before])
    return max(updates[before] + share * (updates[after] - updates[before]), 1.0)


def updates_to_target(evidence: Evidence, model: str) -> pd.DataFrame:
    """Updates of GRPO and DSRL (columns) by seed to first reach base + half of GRPO's gain in validation accuracy.

    Not reached counts as the run's end + 1; a seed in which GRPO gains nothing has no target and counts as both
    arms not reaching it.
    """
    settings = evidence.settings
    grpo, dsrl = (_validation(evidence, method, model) for method in ("grpo", "dsrl"))
    end = results.end_update(settings, "grpo")
    if 0 not in grpo.index or end not in grpo.index:
        raise ValueError(f"grpo needs validations at updates 0 and {end}: add them to the validation updates")
    reached = {}
    for seed in settings["seeds"]:
        base, gain = grpo.loc[0, seed], grpo.loc[end, seed] - grpo.loc[0, seed]
        target = base + gain / 2 if gain > 0 else math.inf
        ends = (end, results.end_update(settings, "dsrl"))
        pairs = zip((grpo, dsrl), ends, strict=True)
        reached[seed] = [min(first_reach(accuracy[seed], target), last + 1) for accuracy, last in pairs]
    return pd.DataFrame.from_dict(reached, orient="index", columns=["grpo", "dsrl"])


def efficiency(evidence: Evidence) -> Scalar:
    """log(updates of GRPO / updates of DSRL) to first reach the target (`updates_to_target`)."""
    reached = updates_to_target(evidence, _first_model(evidence))
    points = sum(len(_validation(evidence, method)) for method in ("grpo", "dsrl"))
    return Scalar(np.log(reached["grpo"] / reached["dsrl"]), _validation_answers(evidence, points))


def warmup_steps(evidence: Evidence) -> Scalar:
    """Mean accuracy over the sweep's S in [10, 25] − mean over its other S (0 = GRPO included)."""
    model, settings = _first_model(evidence), evidence.settings
    inside: list[pd.DataFrame] = []
    outside: list[pd.DataFrame] = []
    for steps, method in settings["warmup"]["s_values"].items():
        rows = _end_answers(evidence, model, method, settings["main_benchmarks"])
        (inside if paper.WARMUP_BEST[0] <= int(steps) <= paper.WARMUP_BEST[1] else outside).append(rows)
    if not inside or not outside:
        raise NotMeasured(f"the sweep has no S inside or none outside {paper.WARMUP_BEST}")

    def mean(sides: list) -> Any:
        return sum(sides) / len(sides)

    values = mean([results.accuracy(rows) for rows in inside]) - mean([results.accuracy(rows) for rows in outside])
    arms = [mean([by_seed_and_question(rows) for rows in side]) for side in (inside, outside)]
    return Scalar(POINTS * values, int(sum(rows["n"].sum() for rows in inside + outside)), (arms[0], arms[1]))


def ood(evidence: Evidence) -> Scalar:
    """accuracy(DSRL) − accuracy(GRPO) on the out-of-distribution benchmarks, lm-evaluation-harness's included."""
    settings, model = evidence.settings, _first_model(evidence)
    arms = [
        results.evaluated(
            evidence.ood[model], settings, method, results.end_update(settings, method), list(settings["ood_sets"])
        )
        for method in ("dsrl", "grpo")
    ]
    return _points(*arms)


def passk(evidence: Evidence) -> Scalar:
    """Mean over K (powers of two) of pass@K(DSRL) − pass@K(GRPO), main benchmarks."""
    model, settings = _first_model(evidence), evidence.settings
    scores = evidence.scores[model]
    curves, n = [], 0
    for method in ("dsrl", "grpo"):
        rows = results.pass_at_k(scores, settings, method, results.end_update(settings, method), MEAN)
        curves.append(rows.pivot(index="seed", columns="k", values="value"))
        n += int(rows[rows["k"] == 1]["n_answers"].sum())
    return Scalar(POINTS * (curves[0] - curves[1]).mean(axis=1, skipna=False), n)


def solved(evidence: Evidence) -> Scalar:
    """Fully solved training prompts, last 5 − first 5 updates of the NSR-PreRL warm-up (halves if under 10)."""
    settings = evidence.settings
    warmup = results.curve(evidence.curves[_first_model(evidence)], settings, "nsr_prerl", "prompts_solved")
    warmup = warmup.loc[1 : settings["switch_update"]]
    window = min(SOLVED_WINDOW, len(warmup) // 2)
    if window == 0:
        raise NotMeasured("the warm-up has fewer than two updates")
    change = warmup.iloc[-window:].mean(skipna=False) - warmup.iloc[:window].mean(skipna=False)
    return Scalar(POINTS * change, 2 * window * settings["prompts_per_update"] * len(settings["seeds"]))


def behaviours(evidence: Evidence) -> Scalar:
    """The paper's behaviours are judged by an LLM, which this pipeline does not run."""
    raise NotMeasured("behaviours are judged by an LLM, which this pipeline does not run")


ALIGNMENT_EXCESS = Claim("alignment_excess", alignment_excess, ">", 0, (), "alignment")
CLAIMS = [
    Claim("alignment", alignment_cosine, ">", 0, (), "alignment"),
    ALIGNMENT_EXCESS,
    Claim("transitions", transitions, ">", 1, (BASE, "nsr_prerl"), "answers", is_ratio=True, early=True),
    Claim("reflections", reflections, ">", 1, (BASE, "nsr_prerl"), "answers", is_ratio=True, early=True),
    Claim("nsr_fast", nsr_fast, ">", 0, ("nsr_prerl", "grpo"), "answers", early=True),
    Claim("prerl_collapse", prerl_collapse, "<", 0, ("prerl",), "curves"),
    Claim("psr_degrades", psr_degrades, "<", 0, (BASE, "psr_prerl"), "answers"),
    Claim("nsr_long", nsr_long, ">", 1, ("nsr_prerl", "grpo"), "answers", is_ratio=True),
    Claim("main_4b", main_4b, ">", 0, ("dsrl", "grpo"), "answers"),
    Claim("main_8b", main_8b, ">", 0, ("dsrl", "grpo"), "answers", model_index=1),
    Claim("warmup_space", warmup_space, ">", 0, ("dsrl", "nsr_rl_warmup"), "answers"),
    Claim("efficiency", efficiency, ">", 1, ("grpo", "dsrl"), "curves", is_ratio=True),
    Claim("warmup_steps", warmup_steps, ">", 0, ("dsrl", "grpo"), "answers"),
    Claim("ood", ood, ">", 0, ("dsrl", "grpo"), "ood"),
    Claim("passk", passk, ">=", 0, ("dsrl", "grpo"), "answers"),
    Claim("solved", solved, ">", 0, ("nsr_prerl",), "curves", early=True),
    Claim("behaviours", behaviours, ">", 0, (), "answers"),
]
