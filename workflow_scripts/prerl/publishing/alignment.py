"""What figure, table and claims read of the gradient alignment: one value per rollout, and the excess of the own x.

Rows of `gradients.parquet`: a rollout of the base (seed, benchmark, question, sample), what the gradient of log P(y)
was compared with (`compared`, `draw`), a group of parameters, and inner products, cosine and norms.
"""

from __future__ import annotations

import pandas as pd

from prerl.core.statistics import Interval, cluster_bootstrap_mean

ROLLOUT = ["seed", "benchmark", "question", "sample"]
ALL = "all"  # the group of all parameters
NAMES = {  # of comparisons, for readers
    "own_x": "own x",
    "other_x": "another problem's x",
    "shuffled_x": "own x, words shuffled",
    "empty_x": "empty x",
    "shuffled_y": "own x, tokens of y shuffled",
    "other_xy": "another x and its y",
}


def of_first_benchmark(rows: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The rows of the benchmark that claims and figure are about."""
    return rows[rows["benchmark"] == settings["alignment"][0]["benchmark"]]


def per_rollout(gradients: pd.DataFrame, compared: str, column: str, group: str = ALL) -> pd.Series:
    """Mean over draws of `column`, by rollout."""
    rows = gradients[(gradients["compared"] == compared) & (gradients["group"] == group)]
    return rows.groupby(ROLLOUT)[column].mean()


def excess(gradients: pd.DataFrame, column: str = "cosine", group: str = ALL) -> pd.Series:
    """By rollout: the value with the own x minus its mean over the draws of another problem's x."""
    own, other = (per_rollout(gradients, name, column, group) for name in ("own_x", "other_x"))
    return own - other


def over_questions(values: pd.Series, settings: dict) -> Interval:
    """Mean over rollouts, with the interval that resamples whole questions: all rollouts of one, of every seed."""
    questions = values.index.get_level_values("benchmark") + "/" + values.index.get_level_values("question")
    return cluster_bootstrap_mean(values.to_numpy(dtype=float), questions.to_numpy(), **settings["bootstrap"])
