"""docs/config.md: a table of every key, made from the settings classes.

cd workflow_scripts && python -m prerl.config.reference > ../docs/config.md
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from prerl.config.key import Key, Limits, keys_of
from prerl.config.scale import Config, Scale

INTRODUCTION = """# Every key of the configuration

Made by `make reference` from the classes in `workflow_scripts/prerl/config/`; do not edit. `config.yaml` holds the
scale, the methods and `common`, which all scales share; `scales/NAME.yaml` holds what differs. A key that no file gives
is an error, unless it is *optional*. Source: what the key stands for in the paper or its official code, with our
confidence (A read directly, B notes that quote the text, C digests, D our inference; docs/deviations.md).
"""
NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def reference() -> str:
    """The page."""
    lines = [INTRODUCTION]
    for path, settings in blocks(Config, ""):
        lines += [
            f"## {path or ('a scale' if settings is Scale else 'config.yaml')}",
            "",
            " ".join((settings.__doc__ or "").split()),
            "",
        ]
        lines += ["| key | type | limits | meaning | source |", "|---|---|---|---|---|"]
        lines += [row(name, *definition) for name, definition in keys_of(settings).items()]
        lines += [""]
    return "\n".join(lines)


def blocks(settings: type, path: str) -> Iterator[tuple[str, type]]:
    """(path, class) of every block, each class once, outer ones first; keys of a mapping are `*`."""
    seen = set()
    pending = [(path, settings)]
    while pending:
        path, settings = pending.pop(0)
        if settings in seen:
            continue
        seen.add(settings)
        yield path, settings
        within = []
        for name, (kind, _, _) in keys_of(settings).items():
            inner, stars = _block_in(kind)
            if inner is not None:
                within.append(("" if inner is Scale else f"{path}.".lstrip(".") + name + stars, inner))
        pending = within + pending


def _block_in(kind: Any) -> tuple[type | None, str]:
    """The settings class within a type, and `.*` for each mapping or list around it."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind, ""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    for option in inner:
        found, stars = _block_in(option)
        if found is not None:
            return found, (".*" if origin in (dict, list) else "") + stars
    return None, ""


def row(name: str, kind: Any, known: Key, needed: bool) -> str:
    """A line of a table."""
    unit = f" [{known.unit}]" if known.unit else ""
    cells = [
        f"`{name}`",
        type_name(kind) + ("" if needed else ", *optional*"),
        limits_text(known.limits),
        known.description + unit,
        known.source or "",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def type_name(kind: Any) -> str:
    """`list of whole number`, `keep or fresh`, `block`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(option) for option in inner if option is not type(None))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"{len(inner)} x {type_name(inner[0])}"
    if origin is list:
        return f"list of {type_name(inner[0])}"
    if origin is dict:
        return f"name: {type_name(inner[1])}"
    return "block" if dataclasses.is_dataclass(kind) else NAMES[kind]


def limits_text(limits: Limits | None) -> str:
    """`≥ 1`, or the remedy of a pattern."""
    if limits is None:
        return ""
    bounds = [f"{sign} {getattr(limits, name)}" for name, sign in SIGNS.items() if getattr(limits, name) is not None]
    return ", ".join(bounds) or (limits.remedy or "").removeprefix("give ")


if __name__ == "__main__":
    print(reference(), end="")
