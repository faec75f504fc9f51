"""Answers of others on the benchmarks of a scale, graded and counted by the rules of our own, in the same table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from prerl.config.errors import nearest
from prerl.config.functions import ThoughtSettings
from prerl.config.key import from_dict
from prerl.core.errors import UserError
from prerl.core.files import json_lines
from prerl.evaluation.grades import grade_answers
from prerl.rollouts.functions import FunctionCounter
from prerl.rollouts.thoughts import ThoughtCounts, count_text

FIELDS = ("benchmark", "question", "text")


class ExternalError(UserError):
    """Answers that cannot be compared; the message names the file, the line and the remedy."""


def read_external(file: Path, problems: Mapping[tuple[str, str], Mapping]) -> pd.DataFrame:
    """The answers, columns FIELDS. problems: those of the scale, by (benchmark, question id).

    Raises ExternalError on a line without a field or with an unknown question, and unless every question of each
    benchmark in the file has the same number of answers: a mean over whatever is there proves nothing.
    """
    rows = []
    for where, row in json_lines(file, "write one JSON object a line"):
        for name in FIELDS:
            if not isinstance(row, dict) or not isinstance(row.get(name), str):
                raise ExternalError(f"{where}: no text `{name}`; a line holds {', '.join(FIELDS)}, each a text")
        benchmarks = {benchmark for benchmark, _ in problems}
        if row["benchmark"] not in benchmarks:
            raise ExternalError(
                f"{where}: {row['benchmark']!r} is no benchmark of this scale, which has "
                f"{', '.join(sorted(benchmarks))}{nearest(row['benchmark'], benchmarks)}"
            )
        if (row["benchmark"], row["question"]) not in problems:
            raise ExternalError(
                f"{where}: {row['question']!r} is no question of {row['benchmark']}; its ids are in the column id of "
                f"data/{row['benchmark']}.parquet in the results"
            )
        rows.append({name: row[name] for name in FIELDS})
    _check_complete(file, Counter((row["benchmark"], row["question"]) for row in rows), problems)
    return pd.DataFrame(rows, columns=list(FIELDS))


def _check_complete(file: Path, answers: Counter, problems: Mapping[tuple[str, str], Mapping]) -> None:
    if not answers:
        raise ExternalError(f"{file} holds no answer; write one JSON object a line: {', '.join(FIELDS)}")
    for benchmark in sorted({benchmark for benchmark, _ in answers}):
        counts = {question: answers[benchmark, question] for name, question in problems if name == benchmark}
        most = max(counts.values())
        short = [question for question, count in counts.items() if count < most]
        if short:
            raise ExternalError(
                f"{file}: {len(short)} of {len(counts)} questions of {benchmark} have fewer than {most} answers, first "
                f"{short[0]!r} with {counts[short[0]]}; give every question the same number"
            )


def questions_of_external(answers: pd.DataFrame, problems: Mapping, settings: Mapping) -> pd.DataFrame:
    """Rows (benchmark, question) with the columns of the questions table that need no tokens, of seed 0.

    settings: of rule grade_samples, and `thoughts` if that is a function. Raises FunctionError.
    """
    keys = zip(answers["benchmark"], answers["question"], strict=True)
    texts = answers["text"].tolist()
    grades = grade_answers(texts, [problems[key] for key in keys], settings)
    graded = answers.drop(columns="text").assign(**{name: grades[name] for name in grades if name != "boxed"})
    graded["right"], graded["unscorable"] = (graded["math_verify"] == verdict for verdict in ("right", "unscorable"))
    graded["differ"] = graded["hendrycks"] != graded["right"]
    counts = _thoughts(texts, settings)
    graded = graded.assign(**{name: [getattr(count, name) for count in counts] for name in ThoughtCounts._fields})
    summed = {name: (name, "sum") for name in ("unscorable", "differ", *ThoughtCounts._fields)}
    summed |= {"reward": ("reward", "sum")} if "reward" in graded else {}
    questions = graded.groupby(["benchmark", "question"], as_index=False, sort=True).agg(
        n=("hendrycks", "size"), correct=("hendrycks", "sum"), correct_math_verify=("right", "sum"), **summed
    )
    return questions.assign(seed=0)


def _thoughts(texts: list[str], settings: Mapping) -> list[ThoughtCounts]:
    if "thoughts" in settings:
        counter = FunctionCounter(from_dict(ThoughtSettings, settings["thoughts"]), settings["processes"])
        return counter.count_all([], texts)
    return [count_text(text) for text in texts]
