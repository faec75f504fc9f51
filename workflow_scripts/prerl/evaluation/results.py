"""Queries of figures and tables on the aggregated results: questions, scores, contrasts, curves.

Every table here has one row per measurement and a `seed` column; functions return one value per seed, so that
intervals are always taken over seeds. Imports pandas only.
"""

import pandas as pd

from prerl.core.constants import BASE

NULLABLE = {"logp_yx_right", "logp_yx_wrong", "logp_y_right", "logp_y_wrong"}  # no such samples: possibly in no update
GRADERS = {"hendrycks": "correct", "math_verify": "correct_math_verify"}  # column of right answers in questions


class NotMeasured(Exception):
    """A measurement that this scale does not make (a method or model is not configured); the message says which."""


def end_update(settings: dict, method: str) -> int:
    """Last update of the whole chain of `method` (0 for the base). Raises NotMeasured if it is not configured."""
    if method == BASE:
        return 0
    if method not in settings["methods"]:
        raise NotMeasured(f"method {method} is not run at this scale")
    return int(settings["methods"][method]["last_update"])


def evaluated(questions: pd.DataFrame, settings: dict, method: str, update: int, benchmarks: list[str]) -> pd.DataFrame:
    """Rows of one method at one update on `benchmarks`, every seed and benchmark present.

    Raises NotMeasured for a method that is not configured, ValueError for a configured one whose rows are missing.
    """
    end_update(settings, method)
    if not benchmarks:
        raise NotMeasured("this scale has no such benchmarks")
    rows = questions[
        (questions["method"] == method) & (questions["update"] == update) & questions["benchmark"].isin(benchmarks)
    ]
    found = set(zip(rows["seed"], rows["benchmark"], strict=True))
    missing = [(s, b) for s in settings["seeds"] for b in benchmarks if (s, b) not in found]
    if missing:
        raise ValueError(
            f"{method} has no evaluated answers at update {update} for (seed, benchmark) {missing[:4]}: "
            f"add update {update} to the evaluated updates of {method}, or change reference_updates in config.yaml"
        )
    return rows[rows["seed"].isin(settings["seeds"])]


def contrast(contrasts: pd.DataFrame, method: str, reference: str, benchmark: str, grader: str = "hendrycks") -> dict:
    """The row of `method` − `reference` in the contrasts table. Raises ValueError if it does not occur exactly once."""
    keys = {"method": method, "reference": reference, "benchmark": benchmark, "grader": grader}
    rows = contrasts[(contrasts[list(keys)] == pd.Series(keys)).all(axis=1)]
    if len(rows) != 1:
        raise ValueError(f"contrasts hold {len(rows)} rows of {keys}, not one: rerun aggregate_scores")
    return rows.iloc[0].to_dict()


def accuracy(rows: pd.DataFrame, grader: str = "hendrycks") -> pd.Series:
    """Accuracy by seed in [0, 1]: mean over answers per question, over questions, then unweighted over benchmarks.

    grader: one of GRADERS, or "reward" for the mean training reward where it is another.
    """
    share = rows[GRADERS.get(grader, grader)] / rows["n"]
    by_benchmark = share.groupby([rows["seed"], rows["benchmark"]]).mean()
    return by_benchmark.groupby(level="seed").mean()


def per_answer(rows: pd.DataFrame, column: str) -> pd.Series:
    """Sum of a count / answers by seed, pooled over the rows' benchmarks."""
    sums = rows.groupby("seed")[[column, "n"]].sum()
    return sums[column] / sums["n"]


def response_tokens(rows: pd.DataFrame) -> pd.Series:
    """Mean response length by seed in tokens, pooled over the rows' answers."""
    total = (rows["tokens_mean"] * rows["n"]).groupby(rows["seed"]).sum()
    return total / rows.groupby("seed")["n"].sum()


def curve(
    curves: pd.DataFrame, settings: dict, method: str, name: str, kind: str = "train", benchmark: str = ""
) -> pd.DataFrame:
    """One measured quantity: index `update`, a column per seed (NaN if null).

    Raises NotMeasured for a method that is not configured, ValueError if a seed has no row of a quantity that every
    update has (a NULLABLE one is then NaN).
    """
    end_update(settings, method)
    rows = curves[
        (curves["method"] == method)
        & (curves["kind"] == kind)
        & (curves["name"] == name)
        & (curves["benchmark"] == benchmark)
    ]
    missing = [seed for seed in settings["seeds"] if seed not in set(rows["seed"])]
    if missing and name not in NULLABLE:
        raise ValueError(
            f"curves hold no {kind} {name!r} (benchmark {benchmark!r}) of {method} for seeds {missing}: "
            "rerun aggregate_scores with these seeds' histories"
        )
    table = rows.pivot(index="update", columns="seed", values="value").sort_index()
    return table.reindex(columns=settings["seeds"]).astype(float)


def untrained_seeds(curves: pd.DataFrame, settings: dict, method: str) -> list[int]:
    """Seeds in which no update of the whole chain had a row in its loss: every group was all right or all wrong."""
    rows = curve(curves, settings, method, "rows_trained").sum()
    return [int(seed) for seed in rows.index[rows == 0]]


def pass_at_k(scores: pd.DataFrame, settings: dict, method: str, update: int, benchmark: str) -> pd.DataFrame:
    """Rows of pass@K (Hendrycks) with a column `k`, every seed present. Raises ValueError if a seed is missing."""
    rows = scores[
        (scores["method"] == method)
        & (scores["update"] == update)
        & (scores["benchmark"] == benchmark)
        & (scores["grader"] == "hendrycks")
        & scores["metric"].str.startswith("pass@")
        & scores["seed"].isin(settings["seeds"])
    ]
    rows = rows.assign(k=rows["metric"].str.removeprefix("pass@").astype(int)).sort_values(["seed", "k"])
    if set(rows["seed"]) != set(settings["seeds"]):
        raise ValueError(
            f"scores hold no pass@k of {method} at update {update} on {benchmark} for every seed of "
            f"{settings['seeds']}: evaluate that update and rerun aggregate_scores"
        )
    return rows
