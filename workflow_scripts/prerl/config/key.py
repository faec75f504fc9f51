"""How a key of the configuration is defined, once: a field of a frozen dataclass, with its meaning and limits.

From these classes come the schema that checks config.yaml (json_schema.py), docs/config.md (reference.py) and the
settings that a job receives (`from_dict`). They are plain dataclasses: jobs also run without pydantic.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Bounds of a number or the pattern of a text; remedy: what an error message tells the user to write."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    pattern: str | None = None
    not_in: tuple[str, ...] = ()
    remedy: str | None = None


COUNT = Limits(ge=1)
NOT_NEGATIVE = Limits(ge=0)
POSITIVE = Limits(gt=0)
FRACTION = Limits(ge=0, le=1)
SHARE = Limits(gt=0, le=1)
TEXT = Limits(pattern=".")
NAME = Limits(
    pattern="^[a-z][a-z0-9_]*$",
    remedy="the name becomes a folder: use lower-case letters, digits and _, a letter first",
)


@dataclass(frozen=True)
class Key:
    """What is known about a key besides its type.

    limits: of the value, or of each item of a list and each value of a mapping; names: of a mapping's keys (a tuple:
    one of these). source: the setting of the paper or its official code that it reproduces.
    """

    description: str
    limits: Limits | None = None
    names: Limits | tuple[str, ...] | None = None
    unit: str | None = None
    source: str | None = None
    unique: bool = False
    may_be_empty: bool = False


def key(description: str, limits: Limits | None = None, *, optional: bool = False, **known: Any) -> Any:
    """A field of a settings class. optional: the key may be left out, and is then None."""
    default = None if optional else dataclasses.MISSING
    return dataclasses.field(default=default, metadata={"key": Key(description, limits, **known)}, kw_only=True)


def keys_of(settings: type) -> dict[str, tuple[Any, Key, bool]]:
    """Name -> (type, Key, whether it must be given) of each key of a settings class."""
    hints = typing.get_type_hints(settings)
    return {
        field.name: (hints[field.name], field.metadata["key"], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(settings)
        if "key" in field.metadata
    }


def select(settings: type, block: Mapping) -> dict:
    """The entries of a block that are keys of `settings`: what a job receives of it."""
    return {name: block[name] for name in keys_of(settings) if name in block}


def from_dict(settings: type[T], values: Mapping) -> T:
    """An instance of a settings class from JSON, blocks within it included. TypeError on an unknown or missing key."""
    hints = typing.get_type_hints(settings)
    return settings(**{name: _value(hints.get(name), value) for name, value in values.items()})


def _value(kind: Any, value: Any) -> Any:
    """A value of JSON as the type `kind` has it: blocks as their classes, tuples, whole numbers as mapping keys."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in inner if option is not type(None)]
        return value if value is None or len(options) > 1 else _value(options[0], value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return from_dict(kind, value)
    if origin is list:
        return [_value(inner[0], item) for item in value]
    if origin is tuple:
        return tuple(value)
    if origin is dict and inner[0] is int:
        return {int(name): number for name, number in value.items()}
    return value
