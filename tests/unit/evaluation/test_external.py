"""Answers of others: what is refused, and the numbers beside ours, by hand."""

import json

import pandas as pd
import pytest

from prerl.core.errors import UserError
from prerl.evaluation.external import questions_of_external, read_external
from prerl.publishing.comparison import compare, reading_form

PROBLEMS = {
    (benchmark, question): {"id": question, "problem": "x", "answer": answer}
    for benchmark, question, answer in [("easy", "q1", "1"), ("easy", "q2", "2"), ("hard", "q1", "3")]
}
ANSWERS = [
    ("easy", "q1", r"Wait, 1\n\n\boxed{1}".replace(r"\n", "\n")),
    ("easy", "q1", r"\boxed{2}"),
    ("easy", "q2", r"\boxed{\frac{4}{2}}"),  # right for math-verify alone
    ("easy", "q2", "2"),
]
SETTINGS = {
    "rules": {"processes": 1, "time_limit_s": 20.0},
    "bootstrap": {"resamples": 200, "confidence": 0.95, "seed": 0},
    "main_benchmarks": ["easy", "hard"],
    "seeds": [1, 2],
    "methods": {"grpo": {"label": "GRPO", "last_update": 3}},
    "warmup": {"method": "grpo", "s_values": {}},
}


def write(folder, answers):
    rows = [dict(zip(("benchmark", "question", "text"), answer, strict=True)) for answer in answers]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "answers.jsonl"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "holds no answer; write one JSON object a line"),
        (
            [("eazy", "q1", "1")],
            "line 1: 'eazy' is no benchmark of this scale, which has easy, hard; did you mean",
        ),
        (
            [("easy", "q9", "1")],
            "line 1: 'q9' is no question of easy; its ids are in the column id of data/easy",
        ),
        ([("easy", "q1", 1)], "line 1: no text `text`; a line holds benchmark, question, text"),
        (ANSWERS[:2], "1 of 2 questions of easy have fewer than 2 answers, first 'q2' with 0"),
        (ANSWERS[:3], "1 of 2 questions of easy have fewer than 2 answers, first 'q2' with 1"),
    ],
)
def test_what_is_refused(tmp_path, answers, said):
    with pytest.raises(UserError, match=said):
        read_external(write(tmp_path, answers), PROBLEMS)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    answers = read_external(write(tmp_path_factory.mktemp("external"), ANSWERS), PROBLEMS)
    return questions_of_external(answers, PROBLEMS, SETTINGS["rules"])


@pytest.mark.slow
def test_counts_by_question(given):
    columns = ["question", "n", "correct", "correct_math_verify", "differ", "unscorable", "reflections", "executions"]
    assert given[columns].to_dict("split")["data"] == [["q1", 2, 1, 1, 0, 0, 1, 2], ["q2", 2, 0, 1, 1, 0, 0, 2]]


def ours(benchmarks=("easy",)):
    """Base: nothing right; GRPO: q1 always, q2 half the time in seed 1 and never in seed 2."""
    right = {("grpo", 1, "q1"): 4, ("grpo", 1, "q2"): 2, ("grpo", 2, "q1"): 4}
    return pd.DataFrame(
        {"method": method, "update": update, "seed": seed, "benchmark": benchmark, "question": question, "n": 4}
        | {"correct": right.get((method, seed, question), 0), "correct_math_verify": 0, "unscorable": 1}
        | {"reflections": 2, "transitions": 0}
        for method, update in (("base", 0), ("grpo", 3))
        for seed in (1, 2)
        for benchmark in benchmarks
        for question in ("q1", "q2")
    )


@pytest.mark.slow
def test_the_table_beside_ours(given):
    """Given: (50 + 0) / 2 = 25 %. GRPO: (100 + 25) / 2 = 62.5 %, of questions 100 and 25, so + 50 and + 25."""
    table = compare("answers.jsonl", given, {"miniature": ours()}, SETTINGS)
    assert table["benchmark"].tolist() == ["easy"] * 3  # no mean: hard is missing
    assert table["run"].tolist() == ["answers.jsonl", "Base", "GRPO"]
    assert table["accuracy"].tolist() == [25.0, 0.0, 62.5] and table["math_verify"].tolist() == [50.0, 0.0, 0.0]
    assert table["vs_given"].tolist() == ["", -25.0, 37.5]
    assert table.loc[2, ["vs_given_low", "vs_given_high"]].tolist() == [25.0, 50.0]
    assert table["answers"].tolist() == [4, 16, 16] and table["unscorable"].tolist() == [0.0, 25.0, 25.0]
    assert table["reflections_per_answer"].tolist() == [0.25, 0.5, 0.5]
    form = reading_form(table)
    assert form["vs the given answers (pp)"].tolist() == ["", "-25.00", "37.50"]


@pytest.mark.slow
def test_the_mean_needs_all_main_benchmarks(tmp_path):
    answers = read_external(write(tmp_path, [*ANSWERS, ("hard", "q1", r"\boxed{3}")]), PROBLEMS)
    table = compare("a", questions_of_external(answers, PROBLEMS, SETTINGS["rules"]), {}, SETTINGS)
    assert dict(zip(table["benchmark"], table["accuracy"], strict=True)) == {"mean": 62.5, "easy": 25.0, "hard": 100.0}


@pytest.mark.slow
def test_runs_of_other_questions_or_settings_are_refused(given):
    for other in (ours(benchmarks=("hard",)), ours().query("seed == 1"), ours().query("method == 'base'")):
        with pytest.raises(UserError, match="was evaluated with other settings than those of now"):
            compare("a", given, {"miniature": other}, SETTINGS)
