"""Scales: inheritance between them, and the complete, checked settings of the chosen one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from prerl.config.checks import check_scale
from prerl.config.errors import ConfigError, nearest
from prerl.config.methods import resolve_methods
from prerl.config.shapes import with_architecture
from prerl.config.validation import LOADER, schema_faults

ROOT = Path(__file__).parents[3]
NULL_LEAVES_OUT = (
    "models", "controls", "evaluation.extra_updates", "data.benchmarks", "ood.tasks", "data.train",
    "alignment.benchmarks",
)  # fmt: skip
"""Blocks of a scale of which a --configfile leaves out an entry, methods apart."""


def deep_merge(base: Mapping, override: Mapping, keep_nulls: bool = False) -> dict:
    """`base` with the keys of `override`; mappings are merged key by key, all else is replaced.

    deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}. None in place of a mapping leaves
    it out, unless nulls are kept: deep_merge({"a": {"b": 1}, "c": 2}, {"a": None}) == {"c": 2}.
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if value is None and isinstance(old, Mapping) and not keep_nulls:
            del merged[key]
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(old, value, keep_nulls)
        else:
            merged[key] = value
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


def inherited_scales(scales: Mapping, common: Mapping) -> dict[str, dict]:
    """Each scale's block over what it `inherits`, in the end `common`. ConfigError on an unknown or circular parent."""

    def block(name: str, asked_by: tuple[str, ...]) -> dict:
        if not isinstance(name, str) or name not in scales:
            raise ConfigError(f"scales.{asked_by[-1]}.inherits: {name!r} is no scale; scales are {', '.join(scales)}")
        if name in asked_by:
            raise ConfigError(f"scales.{name}.inherits leads back to itself; remove one `inherits`")
        changes = {key: value for key, value in scales[name].items() if key != "inherits"}
        parent = block(scales[name]["inherits"], (*asked_by, name)) if "inherits" in scales[name] else common
        merged = deep_merge(parent, changes)
        if isinstance(changes.get("methods"), Mapping):  # null leaves out the method, not the parent's change of it
            merged["methods"] = deep_merge(parent.get("methods", {}), changes["methods"], keep_nulls=True)
        for path in NULL_LEAVES_OUT:
            merged = _without_null_blocks(merged, path)
        for path in [f"data.benchmarks.{name}" for name in merged.get("data", {}).get("benchmarks", {})]:
            merged = _without_null_blocks(merged, path)
        return merged

    return {name: block(name, ()) for name in scales}


def _without_inherited(faults: list[str], parents: Mapping[str, str]) -> list[str]:
    """The faults without those that a scale only inherits. parents: path of a scale -> path that it inherits."""
    inherited = {
        fault
        for fault in faults
        for scale, parent in parents.items()
        if fault.startswith(f"{scale}.") and fault.replace(f"{scale}.", f"{parent}.", 1) in faults
    }
    return [fault for fault in faults if fault not in inherited]


def config_files(root: Path = ROOT) -> list[Path]:
    """config.yaml and the files of the scales."""
    return [root / "config.yaml", *sorted((root / "scales").glob("*.yaml"))]


def with_scale_files(config: Mapping, root: Path = ROOT) -> dict:
    """The configuration with `scales`: the files, overridden by what `config` itself holds (--configfile)."""
    changed = config.get("scales", {})
    if not isinstance(changed, Mapping) or not all(isinstance(scale, Mapping) for scale in changed.values()):
        raise ConfigError("scales: give each scale a block of keys, as in scales/miniature.yaml")
    files = {file.stem: yaml.load(file.read_text(encoding="utf-8"), LOADER) for file in config_files(root)[1:]}
    # nulls stay: they drop what a scale inherits
    scales = {name: deep_merge(files.get(name, {}), changed.get(name, {}), True) for name in {**files, **changed}}
    return {**config, "scales": scales}


def read_files(files: Sequence[Path | str] = (), root: Path = ROOT) -> dict:
    """The configuration as Snakemake reads it from these files (default: config.yaml), with the scales' files."""
    config: dict = {}
    for file in files or config_files(root)[:1]:
        config = deep_merge(config, yaml.load(Path(file).read_text(encoding="utf-8"), LOADER), keep_nulls=True)
    return with_scale_files(config, root)


def read_config(config: Mapping, root: Path = ROOT) -> dict:
    """The block of the chosen scale, complete and checked, with `methods` (the shared ones with the scale's changes).

    Every scale is checked against the schema, the chosen one also for the rest. Raises ConfigError.
    """
    # keys become strings, as in the settings that the jobs get, and so does what YAML reads as a date
    config = dict(json.loads(json.dumps(with_scale_files(config, root), default=str)))
    scales, common = config["scales"], config.get("common", {})
    parents = {f"scales.{name}": f"scales.{block['inherits']}" for name, block in scales.items() if "inherits" in block}
    parents = {f"scales.{name}": "common" for name in scales} | parents
    config["scales"] = inherited_scales(scales, common if isinstance(common, dict) else {})
    faults = _without_inherited(schema_faults(config), parents)
    if faults:
        raise ConfigError("\n".join(faults) + "\nKeys, types and bounds are in docs/config.md")
    scale = config["scale"]
    if scale not in config["scales"]:
        raise ConfigError(
            f"scale: {scale!r} is not one of {', '.join(config['scales'])}{nearest(scale, config['scales'])}"
        )
    external = config.get("external")
    if external is not None and not Path(external).is_file():
        raise ConfigError(f"external: {external} is not there (in {Path.cwd()}); correct the path")
    block = dict(config["scales"][scale])
    block["methods"] = deep_merge(config["methods"], block.get("methods", {}))
    block = _without_null_blocks(block, "methods")  # a --configfile's, of a method that the scale alone has
    block["models"] = {name: with_architecture(name, model) for name, model in block["models"].items()}
    check_scale(block)
    resolve_methods(block)
    return block
