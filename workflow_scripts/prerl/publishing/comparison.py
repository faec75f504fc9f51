"""The table of compare_external: answers of others beside our runs, by benchmark."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prerl.core.constants import BASE, MEAN
from prerl.core.errors import UserError
from prerl.evaluation import results
from prerl.evaluation.contrasts import by_question, paired_question_bootstrap, question_bootstrap
from prerl.publishing import tables
from prerl.publishing.labels import label


class ComparisonError(UserError):
    """Runs that were evaluated on other questions; the message names the run and the remedy."""


def compare(name: str, given: pd.DataFrame, runs: Mapping[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """A row for the given answers, called `name`, and for each evaluated run, by benchmark.

    given, runs: questions tables, `given` without tokens. The mean over the main benchmarks comes first where the given
    answers have all of them. Raises ComparisonError.
    """
    main = settings["main_benchmarks"]
    found = list(dict.fromkeys(given["benchmark"]))
    selections = ({MEAN: main} if set(main) <= set(found) else {}) | {benchmark: [benchmark] for benchmark in found}
    table = []
    for benchmark, names in selections.items():
        chosen = given[given["benchmark"].isin(names)]
        table.append({"benchmark": benchmark, "model": "", "run": name} | _cells(chosen, settings))
        for model, questions in runs.items():
            _check_questions(model, questions, chosen, settings)
            for method in (BASE, *settings["methods"]):
                rows = results.evaluated(questions, settings, method, results.end_update(settings, method), names)
                keys = {"benchmark": benchmark, "model": model, "run": label(settings, method)}
                table.append(keys | _cells(rows, settings) | _difference(rows, chosen, settings))
    return tables.frame(table)


def _check_questions(model: str, questions: pd.DataFrame, given: pd.DataFrame, settings: dict) -> None:
    """Raise ComparisonError unless every configured run of a model was evaluated on the given questions."""
    wanted = set(zip(given["benchmark"], given["question"], strict=True))
    for method in (BASE, *settings["methods"]):
        ends = (questions["method"] == method) & (questions["update"] == results.end_update(settings, method))
        for seed in settings["seeds"]:
            rows = questions[ends & (questions["seed"] == seed) & questions["benchmark"].isin(given["benchmark"])]
            if set(zip(rows["benchmark"], rows["question"], strict=True)) != wanted:
                raise ComparisonError(
                    f"{model}: {method}, seed {seed}, was evaluated with other settings than those of now: run the "
                    "scale again, or delete its questions.parquet, and it is left out"
                )


def _cells(rows: pd.DataFrame, settings: dict) -> dict:
    """Numbers of one run, averaged over its seeds."""
    value, low, high = question_bootstrap(by_question(rows), settings["bootstrap"])
    answers = rows["n"].sum()
    cells: dict = {"questions": len(rows.groupby(["benchmark", "question"])), "answers": int(answers)}
    cells |= {"accuracy": float(value), "boot_low": float(low), "boot_high": float(high)}
    cells["math_verify"] = 100.0 * results.accuracy(rows, "math_verify").mean()
    cells["unscorable"] = 100.0 * rows["unscorable"].sum() / answers
    if "reward" in rows:
        cells["reward"] = results.accuracy(rows, "reward").mean()
    return cells | {f"{name}_per_answer": rows[name].sum() / answers for name in ("reflections", "transitions")}


def _difference(rows: pd.DataFrame, given: pd.DataFrame, settings: dict) -> dict:
    """Accuracy of a run minus that of the given answers, in percentage points."""
    paired = paired_question_bootstrap(by_question(rows), by_question(given), settings["bootstrap"])
    return dict(zip(("vs_given", "vs_given_low", "vs_given_high"), map(float, paired), strict=True))


def reading_form(table: pd.DataFrame) -> pd.DataFrame:
    """The table for reading: two decimals, intervals in brackets."""

    def brackets(prefix: str) -> list[str]:
        return [tables.bracket(*pair) for pair in table[[f"{prefix}_low", f"{prefix}_high"]].to_numpy()]

    form = table[["benchmark", "model", "run"]].copy()
    form["accuracy (%)"], form["bootstrap, questions"] = table["accuracy"].map(tables.number), brackets("boot")
    for name, title in {
        "math_verify": "math-verify (%)",
        "unscorable": "unscorable (% of answers)",
        "reward": "mean reward",
        "reflections_per_answer": "reflections per answer",
        "transitions_per_answer": "transitions per answer",
    }.items():
        if name in table:
            form[title] = table[name].map(tables.number)
    if "vs_given" in table:
        form["vs the given answers (pp)"] = table["vs_given"].map(tables.number)
        form["paired bootstrap, questions"] = brackets("vs_given")
    form["questions"], form["answers"] = table["questions"], table["answers"]
    return form
