"""prepare_data on the seven real files: counts, first rows, answers looked up by hand; and every kind of bad file."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import prepare_data
from prerl.config.scales import read_files
from prerl.core.errors import UserError
from prerl.core.files import read_problems
from prerl.rollouts.rewards import last_boxed

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"
PAPER = read_files()["scales"]["paper"]
FILES = {"train": PAPER["data"]["train"]["file"]}
FILES |= {name: benchmark["file"] for name, benchmark in PAPER["data"]["benchmarks"].items()}
SYSTEM = PAPER["prompt"]["system"]

for needed in FILES.values():
    if not (DATA / needed["name"]).exists():
        pytest.skip(
            f"{DATA / needed['name']} is absent: put the data files there to test their preparation",
            allow_module_level=True,
        )


def prepare(name: str, file: Path, problems: Path, **changed) -> None:
    """Run the script as the rule does, in this process."""
    settings = {"set": name, "system": SYSTEM} | {key: FILES[name][key] for key in ("format", "name", "questions")}
    arguments = ["--settings", json.dumps(settings | changed), "--file", str(file), "--problems", str(problems)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prepare_data.py", *arguments])
        prepare_data.main()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, pa.Table]:
    folder = tmp_path_factory.mktemp("data")
    for name, file in FILES.items():
        prepare(name, DATA / file["name"], folder / f"{name}.parquet")
    return {name: read_problems(folder / f"{name}.parquet") for name in FILES}


@pytest.mark.parametrize(
    ("name", "questions", "last", "problem", "answer", "level"),
    [
        ("train", 7500, "train-7499", "Let \\[f(x) = \\left\\{\n\\begin{array}{cl} ax+3, &\\text{ if", "0", "Level 5"),
        ("math500", 500, "math500-499", "Convert the point $(0,3)$ in", "\\left( 3, \\frac{\\pi}{2} \\right)", ""),
        ("amc23", 40, "amc23-39", "Cities $A$ and $B$ are $45$ miles apart.", "27", ""),
        ("aime24", 30, "aime24-29", "Find the largest possible real part of", "540", ""),
        ("aime25", 30, "aime25-29", "Find the sum of all integer bases $b>9$", "70", ""),
        ("minerva", 272, "minerva-271", "Each of the two Magellan telescopes has a diameter", "1.6", ""),
        ("olympiadbench", 675, "olympiadbench-674", "Xenia and Sergey play the following game.", "2", ""),
    ],
)
def test_counts_and_first_rows(prepared, name, questions, last, problem, answer, level):
    table = prepared[name]
    first = table.slice(0, 1).to_pylist()[0]
    assert table.num_rows == questions and table["id"][-1].as_py() == last
    assert first["id"] == f"{name}-{'0' * len(str(questions - 1))}"
    assert first["problem"].startswith(problem) and first["answer"] == answer and first["level"] == level
    assert set(table["source"].to_pylist()) == {FILES[name]["name"]}
    assert table.column_names[:5] == ["id", "problem", "answer", "level", "source"]
    assert all(table.schema.field(column).type == pa.string() for column in table.column_names[:5])
    assert not any(table[column].null_count for column in table.column_names[:5])
    # Qwen2.5-Math's files are stripped as in its evaluation, the official ones are prompts as they stand
    assert table["source"][0].as_py().endswith(".parquet") or all(p == p.strip() for p in table["problem"].to_pylist())
    assert len(set(table["id"].to_pylist())) == len(set(table["problem"].to_pylist())) == questions


def test_answers_of_the_competitions(prepared):
    # AIME answers are integers of 0 to 999; these are the first five and the last of each year's file
    aime24, aime25, amc23 = (prepared[name]["answer"].to_pylist() for name in ("aime24", "aime25", "amc23"))
    assert [*aime24[:5], aime24[-1]] == ["540", "204", "721", "236", "809", "116"]
    assert [*aime25[:5], aime25[-1]] == ["70", "588", "16", "117", "279", "240"]
    assert all(str(int(answer)) == answer and 0 <= int(answer) <= 999 for answer in aime24 + aime25)
    assert [int(answer) for answer in amc23][15] == -1


def test_math_train_as_the_official_file(prepared):
    levels = prepared["train"]["level"].to_pylist()
    assert {level: levels.count(level) for level in set(levels)} == {
        "Level 1": 564, "Level 2": 1348, "Level 3": 1592, "Level 4": 1690, "Level 5": 2304, "Level ?": 2
    }  # fmt: skip
    rows = pq.read_table(DATA / "math_train.parquet").to_pylist()
    assert prepared["train"]["problem"].to_pylist() == [row["prompt"][1]["content"] for row in rows]
    assert prepared["train"]["answer"].to_pylist() == [row["reward_model"]["ground_truth"] for row in rows]
    # the official file itself has four without an answer
    empty = [row["id"] for row in prepared["train"].to_pylist() if not row["answer"]]
    assert empty == ["train-5341", "train-5343", "train-6627", "train-7301"]
    assert all(table["answer"].to_pylist().count("") == 0 for name, table in prepared.items() if name != "train")


def test_minerva_answers_are_boxed(prepared):
    lines = [json.loads(line) for line in (DATA / "minerva_math.jsonl").read_text().splitlines()]
    boxed = [last_boxed(line["solution"]) for line in lines]
    differ = [i for i, answer in enumerate(prepared["minerva"]["answer"].to_pylist()) if answer != boxed[i]]
    assert differ == [72, 86]  # a box that leaves math mode half way, one that ends in a line break
    assert prepared["minerva"]["answer"][72].as_py() == (
        "x_{0} \\cos (\\omega t)+ \\dot{x}_{0} \\sin (\\omega t) / \\omega"
    )


def test_olympiadbench_lists_units_and_tolerances(prepared):
    rows = {row["id"]: row for row in prepared["olympiadbench"].to_pylist()}
    answers = [rows[f"olympiadbench-{number:03d}"]["answer"] for number in (1, 13, 21)]
    assert answers == ["\\frac{1}{2 n+2}", "69,84", "1,3,5"] and not any("$" in row["answer"] for row in rows.values())
    assert sum(row["answer"] == "(-\\infty, 0) \\cup\\{1\\}" for row in rows.values()) == 1  # "$…$." in the file
    schema = prepared["olympiadbench"].schema
    assert (schema.field("unit").type, schema.field("tolerance").type) == (pa.string(), pa.float64())
    with_unit = {name: row["unit"] for name, row in rows.items() if row["unit"] is not None}
    assert sorted(with_unit.values()) == ["%", "^{\\circ}", "cm^2", "km", "km/h", "min", "minute", "minutes"]
    tolerant = [(row["answer"], row["unit"], row["tolerance"]) for row in rows.values() if row["tolerance"] is not None]
    assert tolerant == [("4.2", "%", 0.1)]


def test_a_list_of_answers_is_joined(tmp_path):
    file = rewritten(tmp_path, "olympiadbench", _set(3, "final_answer", ["$\\frac{1}{2}$.", "\\$5"]))
    prepare("olympiadbench", file, tmp_path / "problems.parquet")
    assert read_problems(tmp_path / "problems.parquet")["answer"][3].as_py() == "\\frac{1}{2}, 5"


def test_the_same_bytes_each_time(tmp_path):
    for name in ("first", "second"):
        prepare("olympiadbench", DATA / "olympiadbench.jsonl", tmp_path / name)
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("first", "second"))
    assert first == second


def test_prepared_files_go_by_checksum(prepared, tmp_path):
    """Snakemake compares inputs below 1 MB by content, so that equal problems made again train nothing again."""
    for name, file in FILES.items():
        prepare(name, DATA / file["name"], tmp_path / name)
        assert (tmp_path / name).stat().st_size < 1_000_000


def refusal(tmp_path: Path, name: str, file: Path, **changed) -> str:
    """The one message with which the script ends, nothing being written."""
    with pytest.raises(UserError) as caught:
        prepare(name, file, tmp_path / "out/problems.parquet", **changed)
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(tmp_path: Path, name: str, change) -> Path:
    """A copy of the file of `name` after `change` of its list of rows."""
    source, copy = DATA / FILES[name]["name"], tmp_path / "copy"
    if FILES[name]["format"] == "verl":
        table = pq.read_table(source)
        rows = table.to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), copy)
    else:
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        change(rows)
        copy.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return copy


@pytest.mark.parametrize("name", ["amc23", "minerva", "olympiadbench"])
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_truncated_file(tmp_path, name, kept):
    content = (DATA / FILES[name]["name"]).read_bytes()
    file = tmp_path / "truncated"
    file.write_bytes(content[: int(len(content) * kept)])
    message = refusal(tmp_path, name, file)
    assert message.startswith(str(file))
    if kept or name == "amc23":
        assert "delete it and" in message
    else:
        assert f"0 different problems, but {name} is configured with `questions: " in message


def test_bytes_that_are_no_text(tmp_path):
    file = tmp_path / "minerva"
    lines = (DATA / "minerva_math.jsonl").read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], b"\xff" + lines[4], *lines[5:]]))
    assert f"{file}, line 5: not JSON (" in refusal(tmp_path, "minerva", file)


def test_copies_with_another_answer(tmp_path):
    def change(rows):
        rows[47]["reward_model"]["ground_truth"] = "7"  # the second copy of the eighth problem, whose answer is 3

    message = refusal(tmp_path, "amc23", rewritten(tmp_path, "amc23", change))
    assert "row 47: the same problem as an earlier one, but its answer is '7', not '3'" in message


def test_problems_of_some_levels_keep_their_ids(prepared, tmp_path):
    file, levels = DATA / FILES["train"]["name"], ["Level 1", "Level 2", "Level 3"]
    prepare("train", file, tmp_path / "easy.parquet", levels=levels, questions=3504)
    easy = read_problems(tmp_path / "easy.parquet").to_pylist()
    assert easy == [row for row in prepared["train"].to_pylist() if row["level"] in levels]
    with pytest.raises(
        UserError, match=r"3504 different problems of levels Level 1, Level 2, Level 3 \(its levels: Lev"
    ):
        prepare("train", file, tmp_path / "easy.parquet", levels=levels, questions=7500)
    with pytest.raises(UserError, match=r"0 different problems of levels Level 1 \(its levels: none\)"):
        prepare("amc23", DATA / FILES["amc23"]["name"], tmp_path / "easy.parquet", levels=["Level 1"])


def test_another_number_of_problems(tmp_path):
    file = DATA / "amc2023_20times.parquet"
    message = refusal(tmp_path, "amc23", file, questions=41)
    assert f"{file}: 40 different problems, but amc23 is configured with `questions: 41`; correct that" in message


def test_another_system_message(tmp_path):
    message = refusal(tmp_path, "amc23", DATA / "amc2023_20times.parquet", system=None)
    assert f"row 0: the system message is {SYSTEM!r}, but prompt.system of this scale None" in message


def _set(number, key, value):
    def change(rows):
        rows[number][key] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("aime24", _set(3, "prompt", [{"role": "user", "content": "1+1?"}]), "row 3: `prompt` is not a system and a"),
        ("aime24", _set(3, "prompt", None), "row 3: `prompt` is None and not a list"),
        ("aime24", _set(3, "reward_model", {"ground_truth": None}), "row 3: `ground_truth` is None and not a str"),
        ("minerva", _set(3, "solution", "It is 4."), "line 4: `solution` has no boxed answer"),
        ("minerva", _set(3, "problem", 5), "line 4: `problem` is 5 and not a str"),
        ("olympiadbench", _set(3, "final_answer", []), "line 4: `final_answer` is [] and holds no text"),
        ("olympiadbench", _set(3, "final_answer", "4"), "line 4: `final_answer` is '4' and not a list"),
        ("olympiadbench", _set(3, "error", "small"), "line 4: `error` is 'small' and not a number"),
        ("olympiadbench", _set(3, "error", ["0.1"]), "line 4: `error` is ['0.1'] and not a number"),
        ("olympiadbench", _set(3, "unit", 5), "line 4: `unit` is 5 and not a str"),
    ],
)
def test_a_row_of_another_format(tmp_path, name, change, said):
    message = refusal(tmp_path, name, rewritten(tmp_path, name, change))
    assert said in message and "correct `format` or the file's address and sha256" in message
