"""Scales: inheritance between them, and the complete, checked settings of the chosen one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from prerl.config.checks import check_scale
from prerl.config.errors import ConfigError, nearest
from prerl.config.methods import resolve_methods
from prerl.config.schema import _schema_faults


def deep_merge(base: Mapping, override: Mapping) -> dict:
    """`base` with the keys of `override`; mappings are merged key by key, all else is replaced.

    deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}. None in place of a mapping leaves
    it out: deep_merge({"a": {"b": 1}, "c": 2}, {"a": None}) == {"c": 2}.
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if value is None and isinstance(old, Mapping):
            del merged[key]
            continue
        merged[key] = deep_merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without_null_blocks(block: Mapping, path: str) -> dict:
    """`block` without the entries at `path` ("a.b") that are None, those of a --configfile too."""
    key, _, rest = path.partition(".")
    inner = block.get(key)
    if not isinstance(inner, Mapping):
        return dict(block)
    if rest:
        return {**block, key: _without_null_blocks(inner, rest)}
    return {**block, key: {name: entry for name, entry in inner.items() if entry is not None}}


def inherited_scales(scales: Mapping) -> dict[str, dict]:
    """Each scale's block with what it `inherits`, that key removed. ConfigError on an unknown or circular one."""

    def block(name: str, asked_by: tuple[str, ...]) -> dict:
        if not isinstance(name, str) or name not in scales:
            raise ConfigError(f"scales.{asked_by[-1]}.inherits: {name!r} is no scale; scales are {', '.join(scales)}")
        if name in asked_by:
            raise ConfigError(f"scales.{name}.inherits leads back to itself; remove one `inherits`")
        own = {key: value for key, value in scales[name].items() if key != "inherits"}
        if "inherits" not in scales[name]:
            merged = own
        else:
            merged = deep_merge(block(scales[name]["inherits"], (*asked_by, name)), own)
        for path in ("models", "data.benchmarks", "ood.tasks"):
            merged = _without_null_blocks(merged, path)
        return merged

    return {name: block(name, ()) for name in scales}


def _without_inherited(faults: list[str], parents: Mapping[str, str]) -> list[str]:
    """The faults without those that a scale only inherits. parents: scale -> the one it inherits."""
    inherited = {
        fault
        for fault in faults
        for scale, parent in parents.items()
        if fault.startswith(f"scales.{scale}.") and fault.replace(f"scales.{scale}.", f"scales.{parent}.", 1) in faults
    }
    return [fault for fault in faults if fault not in inherited]


def read_config(config: Mapping, schema_file: Path) -> dict:
    """The block of the chosen scale, complete and checked, with `methods` (the shared ones under its own changes).

    Every scale is held against the schema, the chosen one against the rest. Raises ConfigError.
    """
    # keys become strings, as in the settings that the jobs get, and so does what YAML reads as a date
    config = json.loads(json.dumps(config, default=str))
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    if not isinstance(config.get("scales"), dict) or not all(isinstance(s, dict) for s in config["scales"].values()):
        raise ConfigError("config.yaml holds no `scales:` with a block each; start from the project's config.yaml")
    parents = {name: block["inherits"] for name, block in config["scales"].items() if "inherits" in block}
    config["scales"] = inherited_scales(config["scales"])
    faults = _without_inherited(_schema_faults(config, schema), parents)
    if faults:
        raise ConfigError("\n".join(faults) + "\nThe keys and their types are in rules/config.schema.yaml")
    scale = config["scale"]
    if scale not in config["scales"]:
        raise ConfigError(
            f"scale: {scale!r} is none of {', '.join(config['scales'])}{nearest(scale, config['scales'])}"
        )
    block = dict(config["scales"][scale])
    block["methods"] = deep_merge(config["methods"], block.get("methods", {}))
    check_scale(block)
    resolve_methods(block)
    return block
