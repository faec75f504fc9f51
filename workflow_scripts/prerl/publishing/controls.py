"""The claims under a control: the same scalar, with other methods in the place of some (block `controls`)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from prerl.core.power import visible
from prerl.core.statistics import Interval, t_interval
from prerl.evaluation.results import NotMeasured
from prerl.publishing.claims import CLAIMS, Claim, Evidence
from prerl.publishing.verdicts import refuse_untrained, reported, verdict

COLUMNS = ["control", "claim", "as_is", "as_is_low", "as_is_high", "under", "under_low", "under_high", "change"]
COLUMNS += ["change_low", "change_high", "smallest_effect", "verdict", "seeds", "n"]


def under(evidence: Evidence, replacing: dict[str, str]) -> Evidence:
    """The evidence with other methods under the names of some; replacing: method -> the one in its place."""
    new_names = {new: old for old, new in replacing.items()}

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        kept = table[~table["method"].isin(set(replacing))]
        return kept.assign(method=kept["method"].replace(new_names))

    methods = {
        new_names.get(name, name): {**entry, "parent": new_names.get(entry["parent"], entry["parent"])}
        for name, entry in evidence.settings["methods"].items()
        if name not in replacing
    }
    tables = {
        name: {model: renamed(table) for model, table in getattr(evidence, name).items()}
        for name in ("questions", "scores", "curves")
    }
    return replace(evidence, settings={**evidence.settings, "methods": methods}, **tables)


def touched(control: dict) -> list[Claim]:
    """The claims on trained policies that read a method which the control replaces."""
    return [
        claim
        for claim in CLAIMS
        if claim.reads in ("answers", "curves") and set(claim.methods) & set(control["replace"])
    ]


def row(name: str, claim: Claim, evidence: Evidence) -> dict:
    """A claim as it is, under the control `name`, and the paired change by seed (of ratios: the ratio of the two).

    Raises NotMeasured where either side is not run at this scale, or a method of it trained on no row in a seed.
    """
    sides = evidence, under(evidence, evidence.settings["controls"][name]["replace"])
    as_is, controlled = (claim.measure(side) for side in sides)
    for side in sides:
        refuse_untrained(claim, side)
    confidence = evidence.settings["confidence"]
    values = as_is.values, controlled.values, controlled.values - as_is.values
    intervals = [reported(claim, t_interval(value.to_numpy(), confidence)) for value in values]
    cells = {"control": name, "claim": claim.name}
    for column, interval in zip(("as_is", "under", "change"), intervals, strict=True):
        cells |= {column: interval.value, f"{column}_low": interval.low, f"{column}_high": interval.high}
    _, low, high = intervals[1]
    change = t_interval(values[2].to_numpy(), confidence)
    smallest = visible(change.low, change.high, len(values[2]), confidence)
    cells["smallest_effect"] = reported(claim, Interval(smallest, 0.0, 0.0)).value  # a change, as `change` is
    word = verdict(low, high, claim.null, claim.side) if evidence.settings["verdicts"] else ""
    return cells | {"verdict": word, "seeds": len(values[0]), "n": controlled.n}


def effects(evidence: Evidence) -> pd.DataFrame:
    """A row (COLUMNS) per control and claim that it touches; claims that are not measured here are left out."""
    rows = []
    for name, control in evidence.settings["controls"].items():
        for claim in touched(control):
            try:
                rows.append(row(name, claim, evidence))
            except NotMeasured:
                continue
    return pd.DataFrame(rows, columns=COLUMNS)


def evidence_of(settings: dict, tables: dict[str, dict[str, pd.DataFrame]]) -> Evidence:
    """Evidence on trained policies alone, from the tables of aggregate_controls."""
    return Evidence(settings=settings, ood={}, gradients={}, **tables)


def interval_text(value: float, low: float, high: float) -> str:
    """A number with its interval, two decimals."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def as_is_of(effects_table: pd.DataFrame, claim: str) -> Interval:
    """The claim as it is, the same in each of its rows."""
    first = effects_table[effects_table["claim"] == claim].iloc[0]
    return Interval(first["as_is"], first["as_is_low"], first["as_is_high"])
