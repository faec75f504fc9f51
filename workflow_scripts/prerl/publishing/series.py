"""A series of a chart as JSON, and the mean and interval over seeds that it shows. Imports no drawing library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from prerl.core.statistics import t_interval

DIGITS = 6  # significant


def over_seeds(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Columns mean, low, high over the seed columns of `table`; rows without any value are dropped.

    A row in which some seeds are null (no such samples in that update) uses the seeds that have a value.
    """
    table = table.dropna(how="all")
    rows = [t_interval(row[np.isfinite(row)], confidence) for row in table.to_numpy(dtype=float)]
    return pd.DataFrame(rows, index=table.index, columns=["mean", "low", "high"], dtype=float)


def numbers(values: Iterable) -> list[float | None]:
    """Rounded to DIGITS significant digits; None where not finite, as JSON has it."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]


def _dash(linestyle: str | tuple) -> str:
    """A line style by plotly's names, or its dashes in pixels.

    >>> _dash("--"), _dash((0, (3, 1)))
    ('dash', '6px,2px')
    """
    if isinstance(linestyle, tuple):
        return ",".join(f"{2 * length}px" for length in linestyle[1])
    return {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}[linestyle]


SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "x": "x-thin-open",
    ".": "circle",
}  # fmt: skip


def _symbol(style: Mapping) -> str:
    """A marker by plotly's names; an open one for `ring`."""
    return "circle-open" if style.get("markerfacecolor") == "none" else SYMBOLS[style["marker"] or "."]


def series_of(
    kind: str,
    name: str,
    style: Mapping,
    x: Iterable,
    y: Iterable,
    *,
    low: Iterable | None = None,
    high: Iterable | None = None,
    raw: Iterable | None = None,
    seeds: Mapping[str, Iterable] | None = None,
) -> dict:
    """A series as JSON. kind: line, points, dots (low, high: of x), steps (x: edges, one more than y),
    cells (low: counts), rule (x or y: where it crosses the panel; two of x: an area; two of both: a segment).

    style: labels.line's; low, high: interval; raw: y before it was smoothed; seeds: values of y by seed.
    """
    series: dict = {
        "kind": kind, "name": name, "color": style["color"], "dash": _dash(style["linestyle"]),
        "symbol": _symbol(style), "x": numbers(x), "y": numbers(y),
    }  # fmt: skip
    for key, values in (("low", low), ("high", high), ("raw", raw)):
        if values is not None:
            series[key] = numbers(values)
    if seeds is not None:
        series["seeds"] = {seed: numbers(values) for seed, values in seeds.items()}
    return series
