"""docs/claims.md and docs/paper_map.md as data: what a claim measures, where a figure comes from in paper and code."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
CLAIMS_PAGE, MAP_PAGE = ROOT / "docs/claims.md", ROOT / "docs/paper_map.md"
LIBRARY = ROOT / "workflow_scripts/prerl"
CELL = re.compile(r"(?<!\\)\|")


def table_after(text: str, header: str) -> list[list[str]]:
    """Cells of the rows of the Markdown table whose header line starts with `header`.

    Raises ValueError if there is none: the page was changed and its reader was not.
    """
    lines = iter(text.splitlines())
    if not any(line.startswith(header) for line in lines):
        raise ValueError(f"no table starts with {header!r}: adapt prerl/publishing/contract.py to the page")
    next(lines)  # the line below the header
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]])
    return rows


@dataclass(frozen=True)
class Contract:
    """A claim in docs/claims.md: its scalar in words (Markdown), unit, null and the paper's side of it."""

    scalar: str
    unit: str
    null: float
    side: str


def _spelt_out(words: str, before: str) -> str:
    """A scalar that refers to the one before it, in full.

    >>> _spelt_out("the same, second model", "accuracy(a) - accuracy(b), first model")
    'accuracy(a) - accuracy(b), second model'
    >>> _spelt_out("the same for late thoughts", "early thoughts per answer; pooled")
    'late thoughts per answer; pooled'
    """
    if found := re.fullmatch(r"the same, (.+)", words):
        return f"{before.rpartition(', ')[0]}, {found[1]}"
    if found := re.fullmatch(r"the same for (.+)", words):
        return " ".join([found[1], *before.split()[len(found[1].split()) :]])
    return words


def contracts(text: str) -> dict[str, Contract]:
    """Claim -> contract, of the text of docs/claims.md; without the claims that nothing measures."""
    found, scalar = {}, ""
    for names, words, unit, null, side, *_ in table_after(text, "| claim | scalar per seed |"):
        scalar = _spelt_out(words, scalar)
        for name in re.findall(r"`(\w+)`", names):
            if null not in ("–", ""):
                found[name] = Contract(scalar, unit, float(null), {"≥": ">="}.get(side, side))
    return found


@dataclass(frozen=True)
class Code:
    """A place in the code: file from the project's root, line and name."""

    file: str
    line: int
    name: str


@cache
def _lines(file: Path) -> dict[str, int]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def code_of(markdown: str) -> list[Code]:
    """The places that a cell of docs/paper_map.md names: `file.py:function`, or a script and the part that fills it.

    Raises KeyError if a function is gone.
    """
    places = []
    for path, name in re.findall(r"`([\w/]+\.py)(?::(\w+))?`", markdown):
        file = next(base / path for base in (ROOT, LIBRARY) if (base / path).is_file())
        lines = _lines(file)
        name = name or next(part for part in ("draw", "build", "main") if part in lines)
        places.append(Code(file.relative_to(ROOT).as_posix(), lines[name], name))
    return places


@dataclass(frozen=True)
class Source:
    """What a target shows of the paper (Markdown), and its code."""

    shows: str
    code: list[Code]


def sources(text: str) -> dict[str, Source]:
    """Target -> source, of the text of docs/paper_map.md."""
    found = {}
    for shows, target, script, *_ in table_after(text, "| in the paper | target |"):
        for name in re.findall(r"rule `(\w+)`", target):
            found[name] = Source(shows, code_of(script))
    return found


@dataclass(frozen=True)
class Shown:
    """Where a claim is computed, and the target that shows it ("" for none)."""

    code: list[Code]
    target: str


def shown_claims(text: str) -> dict[str, Shown]:
    """Claim -> where it is computed and shown, of the text of docs/paper_map.md."""
    found = {}
    for names, _, scalar, shown, *_ in table_after(text, "| claim | the paper's value"):
        places, target = code_of(scalar), re.findall(r"rule `(\w+)`", shown)
        claims = [name.strip() for name in names.split(",")]
        for index, name in enumerate(claims):
            code = [places[index]] if len(places) == len(claims) else places
            found[name] = Shown(code, target[0] if target else "")
    return found
