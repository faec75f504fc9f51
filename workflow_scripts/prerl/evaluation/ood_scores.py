"""Out-of-distribution answers of one model from both sources, and what is compared on them.

Sources: benchmarks of role `ood` (rows of the questions table, graded by Hendrycks equality) and tasks of
lm-evaluation-harness (rule evaluate_ood, graded by the harness). From here on both are the same: one row per question.
"""

from __future__ import annotations

import pandas as pd

from prerl.core.constants import BASE, MEAN
from prerl.core.errors import UserError
from prerl.core.files import read_table
from prerl.evaluation.contrasts import REFERENCE, contrasts_of

COLUMNS = ["method", "update", "seed", "benchmark", "question", "n", "correct"]
KEY = ["method", "update", "seed", "benchmark", "question"]


def _harness_answers(run: dict, tasks: dict[str, int]) -> pd.DataFrame:
    """COLUMNS and prompt_hash of one run. Raises UserError if a task or a question is missing or occurs twice."""
    rows = read_table(run["answers"]).to_pandas().assign(method=run["method"], seed=run["seed"])
    found = rows.groupby("benchmark").size().to_dict()
    if found != tasks or rows.duplicated(KEY).any() or set(rows["update"]) != {run["update"]}:
        raise UserError(
            f"{run['answers']} holds the questions {found} of update {sorted(set(rows['update']))}, not each of "
            f"{tasks} of update {run['update']} once: delete it and run the same command again"
        )
    return rows[[*COLUMNS, "prompt_hash"]]


def _check_prompts(rows: pd.DataFrame) -> None:
    prompts = rows.groupby(["benchmark", "question"])["prompt_hash"].nunique()
    if (prompts > 1).any():
        raise UserError(
            f"the question {prompts.idxmax()} was not asked in the same words in every run: its runs differ in data or "
            "in the version of lm-evaluation-harness; delete the model's */seed*/ood.parquet and run again"
        )


def collect(questions: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """All out-of-distribution answers of a model (COLUMNS); harness tasks only at the end of each run.

    `settings`: "ood_benchmarks" (role ood), "tasks" {name: questions}, "runs" [{method, seed, update, answers}].
    """
    frames = [questions.loc[questions["benchmark"].isin(settings["ood_benchmarks"]), COLUMNS]]
    if settings["tasks"]:
        answers = pd.concat([_harness_answers(run, settings["tasks"]) for run in settings["runs"]])
        _check_prompts(answers)
        frames.append(answers[COLUMNS])
    return pd.concat(frames, ignore_index=True)


def contrasts(answers: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """Every method against the base and against GRPO, on each set and on the unweighted mean of them."""
    names = [*settings["ood_benchmarks"], *settings["tasks"]]
    methods = [BASE, *settings["methods"]]
    pairs = [
        (method, other) for other in (BASE, REFERENCE) if other in methods for method in methods if method != other
    ]
    selections = ({MEAN: names} if len(names) > 1 else {}) | {name: [name] for name in names}
    return contrasts_of(answers, settings, pairs, selections, ["hendrycks"])
