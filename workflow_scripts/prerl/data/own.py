"""Problems of the user's own: a file of JSON lines, CSV or parquet, or a folder of the `datasets` library.

They become the columns of every other set (problems.py), with one more, `row`: the further columns of the file, as
JSON, which a reward function of the user's receives. An id is made of the problem's text, so that rows which are
added, removed or moved leave the ids, and with them the samples, of the others as they were.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from prerl.core.files import json_lines, read_table
from prerl.core.hashes import sha256_of
from prerl.data.problems import COLUMNS, ProblemFileError

OWN_COLUMNS = [*COLUMNS, pa.field("row", pa.string())]
LONGEST_VALUE = 1 << 27  # characters of a value in a CSV file
ID_DIGITS = 12  # hex digits of the sha256 of a problem's text


@dataclass(frozen=True)
class OwnSet:
    """A set's name, the columns of its problems and answers, its number of problems and, if pinned, the sha256."""

    set: str
    problem: str
    answer: str
    questions: int
    sha256: str | None = None


def read_own(path: Path, wanted: OwnSet) -> tuple[pa.Table, dict]:
    """The different problems of `path` in order of first appearance, and the manifest: path, sha256, rows, questions.

    A problem that comes again with the same answer is kept once. Raises ProblemFileError on another content than
    pinned, a missing column, an empty or foreign value, two answers to one problem, or another number of problems;
    FileError on a line that is no JSON and a damaged parquet.
    """
    digest = content_sha256(path)
    if wanted.sha256 not in (None, digest):
        raise ProblemFileError(
            f"{path}: its sha256 is {digest} and not {wanted.sha256}, as configured: put the pinned content back, or "
            f"give the new sha256 for {wanted.set}"
        )
    problems: dict[str, dict] = {}
    rows = 0
    for where, row in _rows(path):
        rows += 1
        problem, answer = _text(row, wanted.problem, where), _text(row, wanted.answer, where)
        known = problems.setdefault(problem, _problem(problem, answer, row, wanted, path))
        if known["answer"] != answer:
            raise ProblemFileError(
                f"{where}: the same problem as an earlier one, whose answer is {known['answer']!r} and not {answer!r}; "
                "keep one of them"
            )
    if len(problems) != wanted.questions:
        raise ProblemFileError(
            f"{path}: {len(problems)} different problems, but {wanted.set} is configured with `questions: "
            f"{wanted.questions}`; correct that number, or the file"
        )
    table = pa.Table.from_pylist(list(problems.values()), schema=pa.schema(OWN_COLUMNS))
    return table, {"path": str(path), "sha256": digest, "rows": rows, "questions": len(problems)}


def content_sha256(path: Path) -> str:
    """Hex sha256 of a file; of a folder, of the names and sha256 of its files."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = "".join(f"{sha256_of(file)}  {file.relative_to(path)}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _problem(problem: str, answer: str, row: dict, wanted: OwnSet, path: Path) -> dict:
    further = {name: value for name, value in row.items() if name not in (wanted.problem, wanted.answer)}
    return {
        "id": f"{wanted.set}-{hashlib.sha256(problem.encode()).hexdigest()[:ID_DIGITS]}",
        "problem": problem,
        "answer": answer,
        "level": "",
        "source": path.name,
        "row": json.dumps(further, default=str),
    }


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(place for messages, row) of each row."""
    if path.is_dir() or path.suffix == ".parquet":
        table = _datasets_table(path) if path.is_dir() else read_table(path)
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(table.to_pylist()))
    elif path.suffix == ".csv":
        yield from _csv_rows(path)
    else:
        yield from json_lines(path, "correct the line")


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a CSV file with a header, every value as text: 007 and 1/2 stay what they are."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(LONGEST_VALUE)
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ProblemFileError(
                        f"{where}: {len(reader.fieldnames or [])} columns in the header, another number here; quote "
                        "values that hold a comma or a line break"
                    )
                yield where, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ProblemFileError(f"{path}, after line {reader.line_num}: {error}; save it as CSV in UTF-8") from None


def _datasets_table(folder: Path) -> pa.Table:
    """The rows of a folder that `Dataset.save_to_disk` wrote: Arrow streams, named in order in state.json."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if state.get("_indices_files") or state.get("_indices_data_files"):  # of datasets before 2.0
        raise ProblemFileError(f"{folder}: its rows are chosen by an index; save it again after `flatten_indices()`")
    tables = []
    for entry in state["_data_files"]:
        file = folder / entry["filename"]
        try:
            with pa.OSFile(str(file)) as source:
                tables.append(pa.ipc.open_stream(source).read_all())
        except (OSError, pa.ArrowException) as error:
            raise ProblemFileError(
                f"{file} cannot be read ({str(error).splitlines()[0]}): save the data set again"
            ) from None
    return pa.concat_tables(tables, promote_options="default")


def _text(row: dict, column: str, where: str) -> str:
    """A problem or an answer: text, or a whole number as text. Surrounding white space goes."""
    if not isinstance(row, dict) or column not in row:
        held = f"its columns are {', '.join(row)}" if isinstance(row, dict) else f"it holds {row!r:.80}"
        raise ProblemFileError(f"{where}: no column {column!r}; {held}: correct `columns`, or the file")
    value = row[column]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ProblemFileError(
            f"{where}: {column} is {value!r}; give text, or a whole number (a fraction as text: 1/2 or 0.5 is "
            "compared as it is written)"
        )
    return value.strip()
