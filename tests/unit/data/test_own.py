"""Problems of the user's own: every format gives the same problems, ids go by the text, every fault has its message."""

import csv
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prerl.core.errors import UserError
from prerl.data.own import OwnSet, content_sha256, read_own

ROWS = [
    {"question": "What is 1/2 + 1/2?", "target": "1", "topic": "fractions"},
    {"question": "Which comes next: 005, 006?", "target": "007", "topic": "series"},
    {"question": "Why, and\nhow?", "target": "so", "topic": "words"},
]
WANTED = OwnSet(set="mine", problem="question", answer="target", questions=3)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_to_disk(folder, rows):
    """As datasets 4 writes it: two Arrow streams, state.json and dataset_info.json."""
    folder.mkdir()
    table = pa.Table.from_pylist(rows)
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table.slice(0, 2), table.slice(2)), strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write(kind, folder, rows=ROWS):
    if kind == "folder":
        return save_to_disk(folder / "set", rows)
    path = folder / f"set.{kind}"
    if kind == "jsonl":
        write_jsonl(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_every_format_gives_the_same_problems(tmp_path, kind):
    path = write(kind, tmp_path)
    table, manifest = read_own(path, WANTED)
    assert table.to_pylist() == [
        {
            "id": f"mine-{hashlib.sha256(row['question'].encode()).hexdigest()[:12]}",
            "problem": row["question"],
            "answer": row["target"],
            "level": "",
            "source": path.name,
            "row": json.dumps({"topic": row["topic"]}),
        }
        for row in ROWS
    ]
    assert manifest == {"path": str(path), "sha256": content_sha256(path), "rows": 3, "questions": 3}
    if path.is_file():
        assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_ids_stay_when_rows_are_added_removed_and_moved(tmp_path):
    before = read_own(write_jsonl(tmp_path / "a.jsonl", ROWS), WANTED)[0]["id"].to_pylist()
    rows = [{"question": "new", "target": 1}, ROWS[2], ROWS[0], ROWS[0]]
    table, manifest = read_own(write_jsonl(tmp_path / "b.jsonl", rows), WANTED)
    assert table["id"].to_pylist()[1:] == [before[2], before[0]]
    assert table["answer"][0].as_py() == "1" and manifest["rows"] == 4


def test_a_folder_is_as_its_files_and_names(tmp_path):
    one, other = save_to_disk(tmp_path / "one", ROWS), save_to_disk(tmp_path / "other", ROWS)
    assert content_sha256(one) == content_sha256(other)
    (other / "state.json").write_text((other / "state.json").read_text() + "\n")
    assert content_sha256(one) != content_sha256(other)


def faulty(folder, kind):
    """A file with a fault, and the wanted set."""
    if kind == "no JSON":
        (folder / "set.jsonl").write_text('{"question": "a", "target": "1"}\n{"question":\n')
        return folder / "set.jsonl"
    if kind == "ragged":
        (folder / "set.csv").write_text("question,target\na,1\nb,2,3\n")
        return folder / "set.csv"
    if kind == "shortened":
        path = save_to_disk(folder / "set", ROWS)
        (path / "data-00001-of-00002.arrow").write_bytes(b"\0" * 10)
        return path
    if kind == "indexed":
        path = save_to_disk(folder / "set", ROWS)
        state = json.loads((path / "state.json").read_text()) | {"_indices_data_files": [{"filename": "i.arrow"}]}
        (path / "state.json").write_text(json.dumps(state))
        return path
    rows = {
        "column": [{"problem": "a", "target": "1"}],
        "list": [["a", "1"]],
        "empty": [{"question": " ", "target": "1"}],
        "null": [{"question": "a", "target": None}],
        "fraction": [{"question": "a", "target": 0.5}],
        "two answers": [{"question": "a", "target": "1"}, {"question": "a", "target": "2"}],
        "number": ROWS[:2],
    }
    return write_jsonl(folder / "set.jsonl", rows[kind])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("column", "line 1: no column 'question'; its columns are problem, target: correct `columns`"),
        ("list", r"line 1: no column 'question'; it holds \['a', '1'\]"),
        ("empty", "line 1: question is ' '; give text"),
        ("null", "line 1: target is None; give text"),
        ("fraction", r"line 1: target is 0.5; give text, or a whole number \(a fraction as text"),
        ("two answers", "line 2: the same problem as an earlier one, whose answer is '1' and not '2'; keep one"),
        ("number", "2 different problems, but mine is configured with `questions: 3`; correct that number"),
        ("no JSON", "line 2: not JSON .*; correct the line"),
        ("ragged", "line 3: 2 columns in the header, another number here; quote"),
        ("shortened", "data-00001-of-00002.arrow cannot be read"),
        ("indexed", "save it again after `flatten_indices"),
    ],
)
def test_every_fault_has_its_message(tmp_path, kind, said):
    with pytest.raises(UserError, match=said):
        read_own(faulty(tmp_path, kind), WANTED)


def test_a_pinned_file_may_not_change(tmp_path):
    path = write("csv", tmp_path)
    pinned = OwnSet(**{**WANTED.__dict__, "sha256": content_sha256(path)})
    assert len(read_own(path, pinned)[0]) == 3
    path.write_text(path.read_text() + "another,1,x\n")
    with pytest.raises(UserError, match="its sha256 is .* as configured: put the pinned content back, or give the new"):
        read_own(path, pinned)
