r"""Problem files as their sources serve them, converted to one schema: id, problem, answer, level, source.

Formats:
- `verl` (parquet): `prompt` holds a system and a user turn, `reward_model.ground_truth` the answer. The `20times` files
  hold each problem 20 times, a sample a row.
- `minerva` (JSON lines): the answer is the last box of `solution`.
- `olympiadbench` (JSON lines): `final_answer` is a list of texts with dollar signs. Two more columns, `unit` (text) and
  `tolerance` (absolute, float64), null if the file gives none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from prerl.core.errors import UserError
from prerl.core.files import json_lines, read_table
from prerl.rollouts.rewards import last_boxed

COLUMNS = [pa.field(name, pa.string()) for name in ("id", "problem", "answer", "level", "source")]
OLYMPIADBENCH_COLUMNS = [*COLUMNS, pa.field("unit", pa.string()), pa.field("tolerance", pa.float64())]
DAMAGED = "delete it and rerun: it is downloaded again"
FOREIGN = "correct `format` or the file's address and sha256 in the configuration"


class ProblemFileError(UserError):
    """A file of problems that cannot be used; the message names the file, the row and the remedy."""


@dataclass(frozen=True)
class ProblemSet:
    """A set's name, its file's format and public name, its number of problems, and the scale's system message.

    levels: of the problems that are kept, None for all.
    """

    set: str
    format: str
    name: str
    questions: int
    system: str | None
    levels: list[str] | None = None


def read_source(file: Path, wanted: ProblemSet) -> pa.Table:
    """The distinct problems of `file` in order of first appearance, with ids like aime24-07, counted before `levels`.

    Raises ProblemFileError if the file is damaged or of another format, equal problems have different answers, or their
    number is not the configured one.
    """
    problems: dict[str, dict] = {}
    for where, row in _rows(file, wanted.format):
        problem = READERS[wanted.format](row, wanted, where)
        known = problems.setdefault(problem["problem"], problem)
        if known != problem:
            raise ProblemFileError(
                f"{where}: the same problem as an earlier one, but {_first_difference(known, problem)}; {FOREIGN}"
            )
    digits = len(str(len(problems) - 1))
    chosen: list[dict] = [
        {"id": f"{wanted.set}-{number:0{digits}d}", **problem, "source": wanted.name}
        for number, problem in enumerate(problems.values())
        if wanted.levels is None or problem["level"] in wanted.levels
    ]
    if len(chosen) != wanted.questions:
        levels = "" if wanted.levels is None else f" of levels {', '.join(wanted.levels)}"
        named = sorted({problem["level"] for problem in problems.values()} - {""})
        there = f" (its levels: {', '.join(named) or 'none'})" if wanted.levels else ""
        raise ProblemFileError(
            f"{file}: {len(chosen)} different problems{levels}{there}, but {wanted.set} is configured with `questions: "
            f"{wanted.questions}`; correct that number, or the file's address and sha256"
        )
    columns = OLYMPIADBENCH_COLUMNS if wanted.format == "olympiadbench" else COLUMNS
    return pa.Table.from_pylist(chosen, schema=pa.schema(columns))


def _rows(file: Path, kind: str) -> Iterator[tuple[str, dict]]:
    """(place for messages, row) of a parquet or JSON-lines file."""
    if kind == "verl":
        yield from ((f"{file}, row {number}", row) for number, row in enumerate(read_table(file).to_pylist()))
    else:
        yield from json_lines(file, DAMAGED)


def _field(row: dict, key: str, kind: type, where: str) -> Any:
    """row[key], which must be a `kind`."""
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, kind):
        raise ProblemFileError(f"{where}: `{key}` is {value!r} and not a {kind.__name__}; {FOREIGN}")
    return value


def _verl(row: dict, wanted: ProblemSet, where: str) -> dict:
    turns = _field(row, "prompt", list, where)
    if [_field(turn, "role", str, where) for turn in turns] != ["system", "user"]:
        raise ProblemFileError(f"{where}: `prompt` is not a system and a user turn; {FOREIGN}")
    system, user = (_field(turn, "content", str, where) for turn in turns)
    if system != wanted.system:
        raise ProblemFileError(
            f"{where}: the system message is {system!r}, but prompt.system of this scale {wanted.system!r}; "
            "make them equal in the configuration"
        )
    level = _field(row, "level", str, where) if "level" in row else ""
    truth = _field(_field(row, "reward_model", dict, where), "ground_truth", str, where)
    return {"problem": user, "answer": truth, "level": level}


def _minerva(row: dict, wanted: ProblemSet, where: str) -> dict:
    answer = _without_dollars(last_boxed(_field(row, "solution", str, where)) or "")
    if not answer:
        raise ProblemFileError(f"{where}: `solution` has no boxed answer; {FOREIGN}")
    return {"problem": _field(row, "problem", str, where).strip(), "answer": answer, "level": ""}


def _olympiadbench(row: dict, wanted: ProblemSet, where: str) -> dict:
    answers = _field(row, "final_answer", list, where)
    answer = ", ".join(_without_dollars(text) for text in answers if isinstance(text, str))
    if not answer:
        raise ProblemFileError(f"{where}: `final_answer` is {answers!r} and holds no text; {FOREIGN}")
    unit, error = row.get("unit"), row.get("error")
    return {
        "problem": _field(row, "question", str, where).strip(),
        "answer": answer,
        "level": "",
        "unit": None if unit is None else _without_dollars(_field(row, "unit", str, where)),
        "tolerance": None if error is None else _tolerance(error, where),
    }


def _without_dollars(text: str) -> str:
    """Without math-mode dollars and the final full stop, as Qwen2.5-Math compares: "$69$,$84$" → "69,84"."""
    return re.sub(r"\\?\$", "", text).strip().removesuffix(".")


def _tolerance(error: str, where: str) -> float:
    try:
        return float(error)
    except (TypeError, ValueError) as fault:
        raise ProblemFileError(f"{where}: `error` is {error!r} and not a number; {FOREIGN}") from fault


def _first_difference(known: dict, problem: dict) -> str:
    key = next(key for key in known if known[key] != problem[key])
    return f"its {key} is {problem[key]!r}, not {known[key]!r}"


READERS = {"verl": _verl, "minerva": _minerva, "olympiadbench": _olympiadbench}
