"""Both graders on the ground truths of the seven data files; `pytest -s` prints the table of docs/graders.md."""

import json
import random
import re
from pathlib import Path

import pyarrow as pa
import pytest

from prerl.config.scales import read_files
from prerl.data.problems import ProblemSet, read_source
from prerl.evaluation.grading import RIGHT, UNSCORABLE, WRONG, grade_math_verify
from prerl.rollouts.rewards import hendrycks_reward, normalise_answer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"
PAPER = read_files()["scales"]["paper"]
SETS = [PAPER["data"]["train"], *PAPER["data"]["benchmarks"].values()]
FILES = {Path(problems["file"]["name"]).stem: problems["file"] for problems in SETS}
for file in FILES.values():
    if not (DATA / file["name"]).is_file():
        pytest.skip(
            f"{DATA / file['name']} is absent: put the data files there to grade real answers", allow_module_level=True
        )

WORKERS, LIMIT_S = 2, 30.0


def prepared(name: str) -> pa.Table:
    """The problems of a file as prepare_data writes them."""
    file = FILES[name]
    wanted = ProblemSet(name, file["format"], file["name"], file["questions"], PAPER["prompt"]["system"])
    return read_source(DATA / file["name"], wanted)


def truths_of(name: str) -> list[str]:
    return prepared(name)["answer"].to_pylist()


def derangement(truths: list[str]) -> list[str]:
    """Each question gets the truth of another one: the next on a random round through all of them."""
    order = random.Random(0).sample(range(len(truths)), len(truths))
    shuffled = list(truths)
    for i, own in enumerate(order):
        shuffled[own] = truths[order[i - 1]]
    return shuffled


def grade(answers: list[str], truths: list[str], **details: list) -> tuple[list[bool], list[str]]:
    """Verdicts of both graders; details: unit and tolerance of each truth."""
    pairs = list(zip(answers, truths, strict=True))
    hendrycks = [hendrycks_reward(rf"The answer is \boxed{{{answer}}}.", truth) == 1.0 for answer, truth in pairs]
    return hendrycks, grade_math_verify(list(zip(answers, truths, *details.values(), strict=True)), WORKERS, LIMIT_S)


def show(capsys, name: str, what: str, hendrycks: list[bool], verdicts: list[str]) -> None:
    counts = " | ".join(str(verdicts.count(verdict)) for verdict in (RIGHT, WRONG, UNSCORABLE))
    with capsys.disabled():
        print(f"\n| {name} | {what} | {len(verdicts)} | {sum(hendrycks)} | {counts} |", end="")


# an empty box in the dataset's solution: nothing to read
UNREADABLE = {"math_train": {"": 4}}


@pytest.mark.parametrize("name", FILES)
def test_every_truth_is_right_against_itself(name, capsys):
    table = prepared(name)
    truths = table["answer"].to_pylist()
    details = {column: table[column].to_pylist() for column in table.column_names[5:]}  # olympiadbench's
    hendrycks, verdicts = grade(truths, truths, **details)
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
    assert verdicts.count(UNSCORABLE) == 4


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


def test_powers_of_ten_of_minerva(capsys):
    """Truths such as 4.5e33 against the same number as a model writes it, and against ten times that."""
    truths = [truth for truth in truths_of("minerva_math") if re.fullmatch(r"-?[0-9.]+e-?[0-9]+", truth)]
    parts = [truth.split("e") for truth in truths]
    for name, shift, verdict in (("as a power of ten", 0, RIGHT), ("ten times that", 1, WRONG)):
        answers = [rf"{number}\times 10^{{{int(power) + shift}}}" for number, power in parts]
        hendrycks, verdicts = grade(answers, truths)
        show(capsys, "minerva_math 4.5e33 …", name, hendrycks, verdicts)
        assert verdicts == [verdict] * len(truths) and not any(hendrycks)
    assert len(truths) == 58


def test_lists_of_olympiadbench(capsys):
    r"""In the other order right, without the first element wrong; dollars between the elements change nothing."""
    lines = (DATA / "olympiadbench.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["is_multiple_answer"]]
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
