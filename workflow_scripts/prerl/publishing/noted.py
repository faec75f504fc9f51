"""What a figure shows, as values: noted while it is drawn, written as CSV for readers and JSON for the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter

from prerl.publishing.series import numbers, series_of

COLUMNS = ["model", "panel", "x_axis", "y_axis", "series", "seed", "x", "y", "low", "high"]
_NOTES: WeakKeyDictionary[Axes, list[dict]] = WeakKeyDictionary()


def note(axes: Axes, kind: str, name: str, style: Mapping, x: Iterable, y: Iterable, **more: Any) -> None:
    """Note a series of `axes` (`series_of`)."""
    _NOTES.setdefault(axes, []).append(series_of(kind, name, style, x, y, **more))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def panel_of(axes: Axes, model: str) -> dict:
    """Model, title (or label, where only a grid's top row has titles), axes' names, limits if set, ticks and series.

    What a grid draws once for a column, its axis' name and ticks, belongs to each of its panels.
    """

    def bounds(limits: tuple[float, float], automatic: bool) -> list[float | None] | None:
        return None if automatic else numbers(limits)

    def ticks(axis: Axis) -> dict | None:
        if not isinstance(axis.get_major_formatter(), FuncFormatter):
            return None  # numbers; else words
        at = axis.get_ticklocs().tolist()
        labels = axis.get_major_formatter().format_ticks(at)
        return {"at": numbers(at), "labels": [_one_line(label) for label in labels]}

    column = [axes, *axes.get_shared_x_axes().get_siblings(axes)]
    dots = [series for series in _NOTES[axes] if series["kind"] == "dots"]
    names = {"at": [y for series in dots for y in series["y"]], "labels": [series["name"] for series in dots]}
    return {
        "model": model,
        "title": _one_line(str(axes.get_label()) or axes.get_title(loc="left")),
        "x": next((name for name in (one.get_xlabel() for one in column) if name), ""),
        "y": axes.get_ylabel(),
        "log_x": axes.get_xscale() == "log",
        "range_x": bounds(axes.get_xlim(), axes.get_autoscalex_on() or bool(dots)),  # theirs leave room for names
        "range_y": bounds(axes.get_ylim(), axes.get_autoscaley_on()),
        "ticks": ticks(axes.xaxis),
        "ticks_y": names if dots else ticks(axes.yaxis),
        "series": _NOTES[axes],
    }


def rows_of(panel: Mapping) -> list[dict]:
    """The rows of one panel in the CSV: a mean with its interval (`seed` empty), then each seed's value."""
    rows = []
    names = {"model": panel["model"], "panel": panel["title"]}
    names |= {f"{axis}_axis": _one_line(panel[axis]) for axis in "xy"}
    for series in panel["series"]:
        if series["kind"] == "rule":
            continue
        columns = {key: series[key] for key in ("low", "high") if key in series}
        edges = [None] if series["kind"] == "steps" else []  # the last edge has no height
        for index, (x, y) in enumerate(zip(series["x"], series["y"] + edges, strict=True)):
            row = names | {"series": series["name"], "x": x, "y": y}
            rows.append(row | {key: values[index] for key, values in columns.items()})
            rows += [row | {"seed": seed, "y": values[index]} for seed, values in series.get("seeds", {}).items()]
    return rows


def write_values(panels: Mapping[str, list[Axes]], csv: Path, to_json: Path) -> None:
    """Write the noted values of a figure. panels: model -> its axes, those without a note are left out."""
    found = [panel_of(axes, model) for model, of_model in panels.items() for axes in of_model if axes in _NOTES]
    rows = [row for panel in found for row in rows_of(panel)]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(csv, index=False)
    to_json.write_text(json.dumps({"panels": found}, ensure_ascii=False, allow_nan=False), encoding="utf-8")
