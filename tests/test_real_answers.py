"""Both graders on the ground truths of the seven data files; `pytest -s` prints the table of docs/graders.md."""

import json
import random
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prerl.grading import RIGHT, UNSCORABLE, WRONG, grade_math_verify
from prerl.rewards import hendrycks_reward, last_boxed, normalise_answer

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = {
    "math_train": ("parquet", 7500),
    "math500": ("parquet", 500),
    "aime_2024_20times": ("parquet", 30),
    "aime_2025_20times": ("parquet", 30),
    "amc2023_20times": ("parquet", 40),
    "minerva_math": ("jsonl", 272),
    "olympiadbench": ("jsonl", 675),
}
for name, (ending, _) in FILES.items():
    if not (DATA / f"{name}.{ending}").is_file():
        pytest.skip(
            f"{DATA / name}.{ending} is absent: put the data files there to grade real answers", allow_module_level=True
        )

WORKERS, LIMIT_S = 2, 30.0


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def truths_of(name: str) -> list[str]:
    """Ground truths in file order, a question once: the 20times files repeat each 20 times."""
    if name == "minerva_math":
        return [last_boxed(row["solution"]) for row in rows_of(name)]
    if name == "olympiadbench":
        return [re.sub(r"(?<!\\)\$", "", row["final_answer"][0]).strip() for row in rows_of(name)]
    table = pq.read_table(DATA / f"{name}.parquet", columns=["prompt", "reward_model"]).to_pylist()
    if name.endswith("20times"):
        table = list({row["prompt"][-1]["content"]: row for row in table}.values())
    return [row["reward_model"]["ground_truth"] for row in table]


def derangement(truths: list[str]) -> list[str]:
    """Each question gets the truth of another one: the next on a random round through all of them."""
    order = random.Random(0).sample(range(len(truths)), len(truths))
    shuffled = list(truths)
    for i, own in enumerate(order):
        shuffled[own] = truths[order[i - 1]]
    return shuffled


def grade(answers: list[str], truths: list[str]) -> tuple[list[bool], list[str]]:
    pairs = list(zip(answers, truths, strict=True))
    hendrycks = [hendrycks_reward(rf"The answer is \boxed{{{answer}}}.", truth) == 1.0 for answer, truth in pairs]
    return hendrycks, grade_math_verify(pairs, WORKERS, LIMIT_S)


def show(capsys, name: str, what: str, hendrycks: list[bool], verdicts: list[str]) -> None:
    counts = " | ".join(str(verdicts.count(verdict)) for verdict in (RIGHT, WRONG, UNSCORABLE))
    with capsys.disabled():
        print(f"\n| {name} | {what} | {len(verdicts)} | {sum(hendrycks)} | {counts} |", end="")


# an empty box in the dataset's solution (4 questions) and a time of day: nothing that math-verify's parser reads
UNREADABLE = {"math_train": {"": 4, "05:00": 1}}


@pytest.mark.parametrize("name", FILES)
def test_every_truth_is_right_against_itself(name, capsys):
    truths = truths_of(name)
    assert len(truths) == FILES[name][1]
    hendrycks, verdicts = grade(truths, truths)
    show(capsys, name, "itself", hendrycks, verdicts)
    assert all(hendrycks) and WRONG not in verdicts
    unscorable = [truth for truth, verdict in zip(truths, verdicts, strict=True) if verdict == UNSCORABLE]
    assert {truth: unscorable.count(truth) for truth in unscorable} == UNREADABLE.get(name, {})


def test_another_question_is_right_only_where_the_answers_are_the_same(capsys):
    truths = truths_of("math_train")
    answers = derangement(truths)
    hendrycks, verdicts = grade(answers, truths)
    show(capsys, "math_train", "another question's truth", hendrycks, verdicts)
    same = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
    assert sum(same) == 42 and hendrycks == same
    assert [verdict == RIGHT for verdict in verdicts] == same
    assert verdicts.count(UNSCORABLE) == 5


def test_math_verify_misses_matrices_in_stripped_truths(capsys):
    r"""math_train's truths are stripped as Hendrycks strips: `\\` is `\`, so the rows of its matrices run together."""
    natural = truths_of("math500")
    hendrycks, verdicts = grade(natural, [normalise_answer(truth) for truth in natural])
    show(capsys, "math500", "its normal form as truth", hendrycks, verdicts)
    assert all(hendrycks)
    missed = [truth for truth, verdict in zip(natural, verdicts, strict=True) if verdict != RIGHT]
    assert len(missed) == 7 and all(r"\\" in truth for truth in missed)
    stripped = truths_of("math_train")
    assert sum(r"\begin{pmatrix}" in truth for truth in stripped) == 99
    assert not any(" " in truth or "\\\\" in truth for truth in stripped)


def test_lists_of_olympiadbench(capsys):
    r"""In the other order right, without the first element wrong; dollars between the elements change nothing."""
    rows = [row for row in rows_of("olympiadbench") if row["is_multiple_answer"]]
    dollars = [row["final_answer"][0].strip("$") for row in rows]
    clean = [re.sub(r"(?<!\\)\$", "", answer) for answer in dollars]
    lists = [re.split(r",(?![^(]*\))", answer) for answer in clean]
    several = [i for i, elements in enumerate(lists) if len(elements) > 1 and r"\mho" not in clean[i]]
    assert (len(rows), len(several)) == (94, 91)
    reverse = [", ".join(lists[i][::-1]) for i in several]
    without = [", ".join(lists[i][1:]) for i in several]
    for name, answers, truths, verdict in (
        ("dollars in the truth", clean, dollars, RIGHT),
        ("other order", reverse, [clean[i] for i in several], RIGHT),
        ("one missing", without, [clean[i] for i in several], WRONG),
    ):
        hendrycks, verdicts = grade(answers, truths)
        show(capsys, "olympiadbench lists", name, hendrycks, verdicts)
        odd = [row for row in zip(answers, truths, verdicts, strict=True) if row[2] != verdict]
        assert odd == [], name
