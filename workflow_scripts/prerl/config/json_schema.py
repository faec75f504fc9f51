"""The JSON schema of the configuration, made from the settings classes: for our checks, and for editors.

A file may hold parts of a scale, so config.schema.json requires no key; `make reference` writes it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal

from prerl.config.key import Key, Limits, keys_of
from prerl.config.scale import Config, Scale

BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}


class Schema:
    """Definitions of blocks by name. complete: blocks hold all their keys; otherwise any part of them (`common`)."""

    def __init__(self, complete: bool) -> None:
        self.complete = complete
        self.definitions: dict[str, dict] = {}

    def block(self, settings: type, complete: bool) -> dict:
        """An object with the keys of a settings class and no others."""
        keys = keys_of(settings)
        block: dict[str, Any] = {
            "type": "object",
            "description": " ".join((settings.__doc__ or "").split()),
            "additionalProperties": False,
            "properties": {name: self.key(kind, known, complete) for name, (kind, known, _) in keys.items()},
        }
        if complete:
            required = [name for name, (_, _, needed) in keys.items() if needed]
            block |= {"required": required} if required else {}
            if hasattr(settings, "one_of"):
                block["oneOf"] = [{"required": [name]} for name in settings.one_of]
        return block

    def key(self, kind: Any, known: Key, complete: bool) -> dict:
        """The schema of a key's value, with what the key means."""
        unit = f" [{known.unit}]" if known.unit else ""
        return self.value(kind, known, complete) | {"description": known.description + unit}

    def value(self, kind: Any, known: Key, complete: bool) -> dict:
        """The schema of a type with the limits of its key."""
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self.union(inner, known, complete)
        if origin is Literal:
            return {"enum": list(inner)}
        if origin is tuple:
            items = self.value(inner[0], known, complete)
            return {"type": "array", "minItems": len(inner), "maxItems": len(inner), "items": items}
        if origin is list:  # a scale replaces the whole list
            result: dict[str, Any] = {"type": "array", "items": self.value(inner[0], known, True)}
            result |= {} if known.may_be_empty else {"minItems": 1}
            return result | ({"uniqueItems": True} if known.unique else {})
        if origin is dict:
            return self.mapping(inner[1], known, complete)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self.reference(kind, complete)
        return {"type": SCALARS[kind]} | limits_of(None if kind is bool else known.limits, kind is str)

    def reference(self, kind: type, complete: bool) -> dict:
        """A reference to the definition of a block."""
        name = kind.__name__ if complete is self.complete else f"{'Whole' if complete else 'PartOf'}{kind.__name__}"
        if name not in self.definitions:
            self.definitions[name] = {}  # reserve its place before nested ones
            self.definitions[name] = self.block(kind, complete)
        return {"$ref": f"#/$defs/{name}"}

    def union(self, inner: tuple, known: Key, complete: bool) -> dict:
        """For a required key, X | None allows null; a number | Literal["word"] is that word or a number."""
        options = [option for option in inner if option is not type(None)]
        if len(options) == 2:
            word = next(option for option in options if typing.get_origin(option) is Literal)
            number = next(option for option in options if option is not word)
            (text,) = typing.get_args(word)
            number_schema = self.value(number, known, complete)
            return {"if": {"type": "string"}, "then": {"const": text}, "else": number_schema}
        result = self.value(options[0], known, complete)
        if "$ref" in result and not complete:  # a scale may leave out an optional block that it inherits
            return {"if": {"type": "null"}, "then": True, "else": result}
        if "type" in result and options[0] is str and type(None) in inner:
            return result | {"type": [result["type"], "null"]}
        return result

    def mapping(self, kind: Any, known: Key, complete: bool) -> dict:
        """User-chosen names to values; null in place of a block drops what is inherited."""
        names = {"enum": list(known.names)} if isinstance(known.names, tuple) else limits_of(known.names, True)
        entry = self.value(kind, known, complete)
        if "$ref" in entry and (not complete or type(None) in typing.get_args(kind)):
            entry = {"if": {"type": "null"}, "then": True, "else": entry}
        result = {"type": "object", "additionalProperties": entry} | ({"propertyNames": names} if names else {})
        return result | ({} if known.may_be_empty or not complete else {"minProperties": 1})


def limits_of(limits: Limits | None, text: bool) -> dict:
    """The bounds of a number or the pattern of a text, with the remedy that our messages give."""
    if limits is None:
        return {}
    bounds = {name: getattr(limits, key) for key, name in BOUNDS.items()}
    result: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if text:
        result = {"pattern": limits.pattern} if limits.pattern else {}
        if limits.not_in:
            result["not"] = {"enum": list(limits.not_in)}
    return result | ({"x-remedy": limits.remedy} if limits.remedy and result else {})


def schema(complete: bool = True) -> dict:
    """The schema of the configuration: once scales are complete, or of its files."""
    made = Schema(complete)
    root = made.block(Config, complete)
    root["properties"]["common"] = made.reference(Scale, complete=False)
    if not complete:
        inherits = {"inherits": {"type": "string", "description": "another scale, whose keys this one changes"}}
        made.definitions["Scale"]["properties"] |= inherits
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": made.definitions}


def text() -> str:
    """config.schema.json: a line for each key."""

    def dump(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict) or not value:
            return json.dumps(value)
        indent = "\n" + " " * (5 - depth)
        return "{" + ",".join(f"{indent}{json.dumps(key)}: {dump(one, depth - 1)}" for key, one in value.items()) + "}"

    return dump(schema(complete=False), 4) + "\n"


if __name__ == "__main__":
    print(text(), end="")
