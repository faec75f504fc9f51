"""Paired differences of accuracy between methods, from the questions table: t over seeds, bootstrap over questions.

The seed is the unit that decides (docs/claims.md). The bootstrap over questions holds the trained policies fixed: it
resamples the questions of accuracies that are averaged over seeds, the same draws for both methods.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from prerl.core.constants import BASE, MEAN
from prerl.core.statistics import Interval, bootstrap_mean, paired_bootstrap_difference, t_interval
from prerl.evaluation.results import GRADERS, accuracy, end_update, evaluated

REFERENCE = "grpo"  # every method and the base are compared with it, each at the end of its run
FURTHER = [("dsrl", "nsr_rl_warmup")]  # (method, reference): does the space of the warm-up matter?
COLUMNS = [
    "method",
    "update",
    "reference",
    "reference_update",
    "benchmark",
    "grader",
    "difference_pp",
    "t_low",
    "t_high",
    "boot_low",
    "boot_high",
    "seeds",
    "n_questions",
    "n_answers",
]


def by_question(rows: pd.DataFrame, grader: str = "hendrycks") -> pd.Series:
    """Accuracy in % of every (benchmark, question), averaged over seeds."""
    share = 100.0 * rows[GRADERS[grader]] / rows["n"]
    return share.groupby([rows["benchmark"], rows["question"]]).mean().sort_index()


def by_seed_and_question(rows: pd.DataFrame, grader: str = "hendrycks") -> pd.DataFrame:
    """Accuracy in % of every (benchmark, question), a column a seed. Raises ValueError if a seed lacks a question."""
    share = (100.0 * rows[GRADERS[grader]] / rows["n"]).rename("share")
    table = rows[["benchmark", "question", "seed"]].assign(share=share)
    wide = table.pivot(index=["benchmark", "question"], columns="seed", values="share").sort_index()
    if wide.isna().any(axis=None):
        raise ValueError("two seeds were evaluated on different questions: evaluate all on the same benchmark files")
    return wide


def benchmarks_of(questions: pd.Series | pd.DataFrame) -> list[str]:
    """The benchmark of each row, by the index (benchmark, question)."""
    return questions.index.get_level_values("benchmark").to_list()


def question_bootstrap(questions: pd.Series, bootstrap: Mapping) -> Interval:
    """Mean over benchmarks of `by_question` values, with its interval over questions."""
    return bootstrap_mean(questions.to_numpy(), benchmarks_of(questions), **bootstrap)


def paired_question_bootstrap(first: pd.Series, second: pd.Series, bootstrap: Mapping) -> Interval:
    """`first` − `second` (`by_question` values) in percentage points, with its interval over questions.

    Raises ValueError if the two hold different questions.
    """
    if not first.index.equals(second.index):
        raise ValueError("two methods were evaluated on different questions: evaluate both on the same benchmark files")
    return paired_bootstrap_difference(first.to_numpy(), second.to_numpy(), benchmarks_of(first), **bootstrap)


def difference(rows: pd.DataFrame, reference: pd.DataFrame, grader: str, bootstrap: Mapping) -> dict:
    """Accuracy of `rows` − accuracy of `reference` in percentage points, with both intervals, seeds and n.

    The t interval is over paired per-seed differences, NaN with one seed; `n_answers` counts both methods' answers.
    """
    per_seed = 100.0 * (accuracy(rows, grader) - accuracy(reference, grader))
    value, t_low, t_high = t_interval(per_seed.to_numpy(), bootstrap["confidence"])
    first, second = by_question(rows, grader), by_question(reference, grader)
    _, boot_low, boot_high = paired_question_bootstrap(first, second, bootstrap)
    bounds = {"t_low": t_low, "t_high": t_high, "boot_low": float(boot_low), "boot_high": float(boot_high)}
    counts = {"n_questions": len(first), "n_answers": int(rows["n"].sum() + reference["n"].sum())}
    return {"difference_pp": value} | bounds | {"seeds": len(per_seed)} | counts


def contrast_table(questions: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """A row (COLUMNS) for each pair of methods, each benchmark and the mean of the main ones, and each grader.

    `settings`: "methods", "seeds", "benchmarks", "main_benchmarks", "bootstrap". Pairs with a method that is not run at
    this scale are left out; a run without its answers is an error (`results.evaluated`).
    """
    methods = (BASE, *settings["methods"])
    pairs = [(method, REFERENCE) for method in methods if method != REFERENCE] + FURTHER
    selections = {MEAN: settings["main_benchmarks"]} | {name: [name] for name in settings["benchmarks"]}
    return contrasts_of(questions, settings, [pair for pair in pairs if {*pair} <= {*methods}], selections, GRADERS)


def contrasts_of(
    questions: pd.DataFrame,
    settings: dict,
    pairs: Sequence[tuple[str, str]],
    selections: Mapping[str, list[str]],
    graders: Iterable[str],
) -> pd.DataFrame:
    """A row (COLUMNS) for each (method, reference), both at the end of their runs, each selection and each grader.

    `selections`: value of the column benchmark -> the benchmarks that it averages, unweighted.
    """
    table = []
    for method, reference in pairs:
        ends = {"update": end_update(settings, method), "reference_update": end_update(settings, reference)}
        for benchmark, names in selections.items():
            rows = evaluated(questions, settings, method, ends["update"], names)
            other = evaluated(questions, settings, reference, ends["reference_update"], names)
            keys = {"method": method, "reference": reference, "benchmark": benchmark} | ends
            for grader in graders:
                table.append(keys | {"grader": grader} | difference(rows, other, grader, settings["bootstrap"]))
    return pd.DataFrame(table, columns=COLUMNS)
