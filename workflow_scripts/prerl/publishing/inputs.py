"""The command line of a figure or table, and the input tables it names, by model."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prerl.core.files import read_table
from prerl.publishing import provenance

FIGURE, TABLE = ("pdf", "png", "csv", "json"), ("csv", "md")  # the files of a target
PER_RUN = {**dict.fromkeys(["alignment", "gradients", "tokens"], "alignment"), "diagnosis": "bases"}
"""Input -> the key of the settings that lists its files; the others have one per model."""


@dataclass(frozen=True)
class Job:
    """What a script is given. tables: input -> model -> table; outputs: suffix -> file.

    provenance: of the jobs behind it (`provenance.summary`); None if the script was started without their records.
    """

    settings: dict
    tables: dict[str, dict[str, pd.DataFrame]]
    outputs: dict[str, Path]
    provenance: dict | None = None


def read_job(description: str, inputs: list[str], outputs: tuple[str, ...]) -> Job:
    """Parse the command line (`--settings`, an option for each input and output) and read the inputs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON settings of the publish stage")
    for name in inputs:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, nargs="+", type=Path)
    for suffix in outputs:
        parser.add_argument(f"--{suffix}", required=True, type=Path)
    parser.add_argument("--provenance", type=Path, help="folder of the jobs' records, to say where it all comes from")
    given = vars(parser.parse_args())
    settings, folder = given["settings"], given["provenance"]
    tables = {name: read_tables(name, given[name], settings) for name in inputs}
    origin = None if folder is None else provenance.summary(provenance.read_records(folder), settings)
    return Job(settings, tables, {suffix: given[suffix] for suffix in outputs}, origin)


def read_tables(name: str, paths: list[Path], settings: dict) -> dict[str, pd.DataFrame]:
    """Model -> table of one input; those PER_RUN get the column `seed`. Raises ValueError if the counts differ."""
    models = settings["models"]
    runs = settings[PER_RUN[name]] if name in PER_RUN else [{"model": model} for model in models]
    if len(paths) != len(runs):
        raise ValueError(f"{name}: {len(paths)} files for {len(runs)} runs: pass one for each of {runs}")
    frames: dict[str, list[pd.DataFrame]] = {model: [] for model in models}
    for path, run in zip(paths, runs, strict=True):
        table = read_table(path).to_pandas()
        frames[run["model"]].append(table.assign(seed=run["seed"]) if "seed" in run else table)
    return {model: pd.concat(parts, ignore_index=True) for model, parts in frames.items()}
