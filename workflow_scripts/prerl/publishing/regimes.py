"""When does the warm-up in P(y) pay? DSRL against GRPO in organisms that differ in how often answers are careful."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prerl.core.constants import MEAN
from prerl.core.statistics import t_interval
from prerl.evaluation import results

REFERENCE = "grpo"
SCALARS = {
    "accuracy": "accuracy at the end, pp",
    "area": "mean validation accuracy of the run, pp",
    "sooner": "first solved group, updates sooner",
}


def area(accuracy: pd.DataFrame) -> pd.Series:
    """Mean over the run of validation accuracy in %, trapezoids between validations, by seed.

    Accuracies 0, 0.5, 0.5 at updates 0, 10, 20: (2.5 + 5) / 20 = 37.5 %.
    """
    updates = accuracy.index.to_numpy(dtype=float)
    whole = np.trapezoid(accuracy.to_numpy(dtype=float), updates, axis=0) / (updates[-1] - updates[0])
    return pd.Series(100 * whole, index=accuracy.columns)


def first_solved(solved: pd.DataFrame) -> pd.Series:
    """First update with a prompt of which every sample is right, by seed; the run's last + 1 if there is none."""
    reached = solved > 0
    first = reached.idxmax().where(reached.any(), solved.index[-1] + 1)
    return first.astype(float)


def measured(questions: pd.DataFrame, curves: pd.DataFrame, settings: dict, method: str) -> dict[str, pd.Series]:
    """Scalar -> its value of one method by seed."""
    end = results.end_update(settings, method)
    answers = results.evaluated(questions, settings, method, end, settings["main_benchmarks"])
    return {
        "accuracy": 100 * results.accuracy(answers),
        "area": area(results.curve(curves, settings, method, "accuracy", "validation", MEAN)),
        "sooner": -first_solved(results.curve(curves, settings, method, "prompts_solved")),
    }


def cells(questions: dict[str, pd.DataFrame], curves: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """A row per organism, length S of the warm-up and scalar: DSRL - GRPO by seed, with its t interval."""
    rows = []
    for model, shares in settings["regimes"].items():
        reference = measured(questions[model], curves[model], settings, REFERENCE)
        for steps, method in settings["warmup"]["s_values"].items():
            if method == REFERENCE:
                continue
            values = measured(questions[model], curves[model], settings, method)
            for scalar in SCALARS:
                mean, low, high = t_interval((values[scalar] - reference[scalar]).to_numpy(), settings["confidence"])
                row = {"model": model, **shares, "S": int(steps), "scalar": scalar, "difference": mean}
                row |= {"low": low, "high": high, "grpo": reference[scalar].mean(), "dsrl": values[scalar].mean()}
                rows.append(row | {"seeds": len(values[scalar])})
    return pd.DataFrame(rows)
