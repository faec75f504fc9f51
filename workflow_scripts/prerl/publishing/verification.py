"""Does a run give what a reference gives: bitwise where nothing differs that may change a bit, else within intervals.

Bits must agree if code, settings, packages, seeds and chips are equal (provenance.json of both sides). Otherwise two
runs are two samples: a difference must lie within its own interval, the half-widths of both in quadrature, at the
tables' confidence for all values of a table together (Bonferroni). Only what has an interval over seeds is compared
then, and counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from prerl.core.statistics import t_quantile

MUST_AGREE = ("code", "settings", "environment", "seeds", "chips")
"""Keys of `provenance.summary`; the models and data are results, on which two machines may differ."""
KEYS = (
    "claim",
    "weights",
    "compared with",
    "model",
    "method",
    "update",
    "benchmark",
    "grader",
    "control",
    "cell",
    "cost",
    "contrast",
)
BOUNDS = {"ours": "ci", "accuracy": "t"}  # prefix of `_low` and `_high`; of another value X: X_t or X
MANY = 1000  # seeds, where an interval is not over seeds
TIMED = {"cost": "seconds"}  # column -> rows that no two runs share
COUNTS = ("questions", "answers", "n", "seeds")


@dataclass
class Comparison:
    """What was compared in one table, and where it disagrees; `notes` are no disagreement."""

    rows: int
    equal: int
    values: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def what_differs(ours: Mapping | None, reference: Mapping | None) -> list[str]:
    """Why two runs need not agree bitwise; empty if they must. None: that side has no provenance.json."""
    if ours is None or reference is None:
        return [f"the {'run' if ours is None else 'reference'} has no provenance.json"]
    return [key for key in MUST_AGREE if ours[key] != reference[key]]


def compare(ours: pd.DataFrame, reference: pd.DataFrame, bitwise: bool, confidence: float) -> Comparison:
    """Two tables as read from CSV, every cell a string ('' where empty): row by row, by their KEYS."""
    for column, value in TIMED.items():
        ours, reference = (table[table[column] != value] if column in table else table for table in (ours, reference))
    keys = [name for name in KEYS if name in reference.columns]
    if list(ours.columns) != list(reference.columns):
        missing = [name for name in reference.columns if name not in ours.columns]
        shared = [name for name in reference.columns if name in ours.columns]
        if bitwise or not set(keys) <= set(shared):
            return Comparison(len(reference), 0, faults=[f"columns differ: {missing or 'further ones'}"])
        ours, reference = ours[shared], reference[shared]
    left, right = (_rows(table, keys) for table in (ours, reference))
    equal = [key for key in right if key in left and left[key].equals(right[key])]
    found = Comparison(len(right), len(equal))
    found.faults += [f"{_name(key)}: missing" for key in right if key not in left]
    found.notes += [f"{_name(key)}: not in the reference" for key in left if key not in right]
    changed = [key for key in right if key in left and key not in equal]
    for key in changed:
        if bitwise:
            columns = [name for name in reference.columns if left[key][name] != right[key][name]]
            found.faults.append(f"{_name(key)}: {', '.join(columns)}")
    if not bitwise:
        _within_intervals(found, left, right, [key for key in right if key in left], confidence)
    return found


def _rows(table: pd.DataFrame, keys: list[str]) -> dict[tuple, pd.Series]:
    """The rows by their keys; of several with the same keys, in their order, the second is '2' and so on."""
    repeats = table.groupby(keys).cumcount() if keys else pd.Series(range(len(table)), table.index)
    marks = ("" if repeat == 0 else str(repeat + 1) for repeat in repeats)
    return {(*row[keys], mark): row for (_, row), mark in zip(table.iterrows(), marks, strict=True)}


def _name(key: tuple) -> str:
    return " ".join(filter(None, key)) or "row"


def measured(row: pd.Series) -> Iterator[tuple[str, str, str]]:
    """The columns of a value and its bounds over seeds, for each that a row has; a median stands beside its mean."""
    for name in row.index.drop("median", errors="ignore"):
        for prefix in (BOUNDS.get(name), f"{name}_t", name):
            if prefix and f"{prefix}_low" in row.index:
                yield name, f"{prefix}_low", f"{prefix}_high"
                break


def _value(row: pd.Series, columns: tuple[str, str, str]) -> tuple[float, float] | None:
    """Value and half-width, as logarithms if the bounds lie round the value like a ratio's; None if not measured."""
    if row[columns[0]] == "":
        return None
    value, low, high = (float(row[name]) if row[name] else math.nan for name in columns)
    if low > 0 and not math.isclose(high - value, value - low, rel_tol=1e-6, abs_tol=1e-9):
        return math.log(value), (math.log(high) - math.log(low)) / 2
    return value, (high - low) / 2


def _within_intervals(found: Comparison, left: dict, right: dict, keys: list[tuple], confidence: float) -> None:
    pairs = [(key, names) for key in keys for names in measured(right[key]) if right[key][names[0]] != ""]
    found.values = len(pairs)
    for key, names in pairs:
        ours, reference = left[key], right[key]
        seeds = [int(row.get("seeds", MANY)) for row in (ours, reference)]
        if (expected := _value(reference, names)) is None or (got := _value(ours, names)) is None:
            found.faults.append(f"{_name(key)} {names[0]}: not measured")
            continue
        if math.isnan(expected[1]):
            found.notes.append(f"{_name(key)} {names[0]}: the reference has no interval")
            continue
        half = expected[1] * math.sqrt(seeds[1] / seeds[0]) if math.isnan(got[1]) else got[1]  # one seed: its spread
        wide = _bonferroni(confidence, len(pairs), min(seeds) if min(seeds) > 1 else max(seeds))
        if abs(got[0] - expected[0]) > wide * math.hypot(half, expected[1]) + 1e-9:
            found.faults.append(f"{_name(key)} {names[0]}: {ours[names[0]]}, the reference has {reference[names[0]]}")
    for key in keys:
        ours, reference = left[key], right[key]
        if ours.get("seeds") == reference.get("seeds"):
            unequal = [name for name in COUNTS if name in reference.index and ours[name] != reference[name]]
            found.faults += [f"{_name(key)} {name}: {ours[name]}, not {reference[name]}" for name in unequal]
        if ours.get("verdict") != reference.get("verdict"):
            found.notes.append(f"{_name(key)}: {reference['verdict']} in the reference, {ours['verdict']} here")


def _bonferroni(confidence: float, values: int, seeds: int) -> float:
    """How much wider an interval over `seeds` seeds gets if `values` of them are to hold together."""
    single, together = (t_quantile(1 - (1 - confidence) / 2 / number, seeds - 1) for number in (1, values))
    return together / single
