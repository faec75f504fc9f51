"""The settings of a run as the page shows them, and what in them is not the checkout's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from prerl.config.scales import read_config, read_files
from prerl.core.constants import BASE
from prerl.core.hashes import sha256_of

MISSING = "–"


def flat(block: Mapping, path: str = "") -> Iterator[tuple[str, str]]:
    """Key path and value of each leaf.

    >>> list(flat({"a": {"b": 1}}))
    [('a.b', '1')]
    """
    for key, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", str(value)


def changed_settings(scale: str, block: Mapping) -> list[tuple[str, str, str]]:
    """Key, the value that the files of the checkout give, and this run's, for each that differs (not `resources`)."""
    files = read_files()
    shipped = dict(flat(read_config(files | {"scale": scale}))) if scale in files["scales"] else {}
    used = dict(flat(block))
    found = [(key, shipped.get(key, MISSING), used.get(key, MISSING)) for key in dict.fromkeys([*shipped, *used])]
    return [row for row in found if row[1] != row[2] and not row[0].startswith("resources.")]


def hashes(results: Path, models: list[str]) -> list[tuple[str, str]]:
    """File and sha256 of each base model's manifest (which lists the model's files) and each problem set."""
    files = [file for model in models for file in sorted((results / model / BASE).glob("**/model/manifest.json"))]
    files += sorted((results / "data").glob("*.parquet"))
    return [(file.relative_to(results).as_posix(), sha256_of(file)) for file in files]
