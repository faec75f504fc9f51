"""The command line of a figure or table, and the input tables it names, by model."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prerl.core.files import read_table

FIGURE, TABLE = ("pdf", "png"), ("csv", "md")  # the files of a target
PER_RUN = ("alignment", "gradients", "tokens")  # a file per entry of settings["alignment"]; the others one per model


@dataclass(frozen=True)
class Job:
    """What a script is given. tables: input -> model -> table; outputs: suffix -> file."""

    settings: dict
    tables: dict[str, dict[str, pd.DataFrame]]
    outputs: dict[str, Path]


def read_job(description: str, inputs: list[str], outputs: tuple[str, str]) -> Job:
    """Parse the command line (`--settings`, an option for each input and output) and read the inputs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON settings of the publish stage")
    for name in inputs:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, nargs="+", type=Path)
    for suffix in outputs:
        parser.add_argument(f"--{suffix}", required=True, type=Path)
    given = vars(parser.parse_args())
    tables = {name: read_tables(name, given[name], given["settings"]) for name in inputs}
    return Job(given["settings"], tables, {suffix: given[suffix] for suffix in outputs})


def read_tables(name: str, paths: list[Path], settings: dict) -> dict[str, pd.DataFrame]:
    """Model -> table of one input; those PER_RUN get the column `seed`. Raises ValueError if the counts differ."""
    models = settings["models"]
    runs = settings["alignment"] if name in PER_RUN else [{"model": model} for model in models]
    if len(paths) != len(runs):
        raise ValueError(f"{name}: {len(paths)} files for {len(runs)} runs: pass one for each of {runs}")
    frames: dict[str, list[pd.DataFrame]] = {model: [] for model in models}
    for path, run in zip(paths, runs, strict=True):
        table = read_table(path).to_pandas()
        frames[run["model"]].append(table.assign(seed=run["seed"]) if "seed" in run else table)
    return {model: pd.concat(parts, ignore_index=True) for model, parts in frames.items()}
