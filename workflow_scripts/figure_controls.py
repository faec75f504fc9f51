"""Figure: each claim as it is (band) and under each control (points), with t intervals over seeds."""

import math
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from prerl.core.errors import run_main
from prerl.publishing import plotting
from prerl.publishing.claims import CLAIMS
from prerl.publishing.controls import as_is_of, effects, evidence_of, touched
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLACK, GREY, RULE, VERMILLION
from prerl.publishing.noted import note

COLUMNS = 3
LABEL_COLUMNS = 22  # characters of a control's label in a line
STYLE = {"color": VERMILLION, "linestyle": "-", "marker": "o"}
UNITS = {True: "ratio", False: "pp"}


def logarithmic(axes: Axes) -> None:
    """For ratios: an axis by powers of ten, with ticks at 1, 2 and 5 of each."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw(block: SubFigure, questions: pd.DataFrame, scores: pd.DataFrame, curves: pd.DataFrame, settings: dict) -> None:
    """A panel per claim of one model, a line per control; one that does not touch the claim stays empty."""
    model = settings["model"]
    tables = {"questions": {model: questions}, "scores": {model: scores}, "curves": {model: curves}}
    table = effects(evidence_of(settings | {"models": [model]}, tables))
    claims = [claim for claim in CLAIMS if claim.name in set(table["claim"])]
    if not claims:
        block.text(0.5, 0.5, "no claim's methods ran both as they are and under a control", ha="center")
        return
    names = [name for name in settings["controls"] if name in set(table["control"])]
    labels = [settings["controls"][name]["label"] for name in names]
    panels = block.subplots(math.ceil(len(claims) / COLUMNS), COLUMNS, squeeze=False, sharey=True).ravel()
    for axes, claim in zip(panels, claims, strict=False):
        rows = table[table["claim"] == claim.name]
        as_is = as_is_of(table, claim.name)
        axes.axvspan(as_is.low, as_is.high, color=BLACK, alpha=0.12, linewidth=0)
        axes.axvline(as_is.value, color=BLACK, linewidth=1)
        note(axes, "rule", "", RULE, [as_is.low, as_is.high], [])  # the caption names them: no room between the rows
        note(axes, "rule", "", {**RULE, "color": BLACK, "linestyle": "-"}, [as_is.value], [])
        axes.axvline(claim.null, color=GREY, linewidth=0.7, linestyle=":")
        note(axes, "rule", "", RULE, [claim.null], [])
        for _, row in rows.iterrows():
            place = names.index(row["control"])
            bars = [[row["under"] - row["under_low"]], [row["under_high"] - row["under"]]]
            axes.errorbar(row["under"], -place, xerr=bars, color=VERMILLION, marker="o", markersize=3, elinewidth=1)
            bounds = row["under_low"], row["under_high"]
            note(axes, "dots", labels[place], STYLE, [row["under"]], [-place], low=bounds[:1], high=bounds[1:])
        if claim.is_ratio:
            logarithmic(axes)
        axes.set_title(f"{claim.name} ({UNITS[claim.is_ratio]})")
    wrapped = [textwrap.fill(label, LABEL_COLUMNS) for label in labels]
    panels[0].set_yticks([-place for place in range(len(names))], wrapped)
    panels[0].set_ylim(-len(names) + 0.5, 0.5)
    for axes in panels[::COLUMNS]:
        axes.tick_params(axis="y", labelsize=6.5)
    for axes in panels[len(claims) :]:
        axes.set_axis_off()


def main() -> None:
    """Draw the claims under their controls."""
    job = read_job(__doc__, ["questions", "scores", "curves"], FIGURE)
    footer = f"black: as it is; orange: under the control; dotted: null; {plotting.seeds_text(job.settings)}"
    controls = job.settings["controls"].values()
    claims = {claim.name for control in controls for claim in touched(control)}
    height = 0.6 + math.ceil(len(claims) / COLUMNS) * (0.45 + 0.24 * len(controls))
    plotting.draw_models(job, draw, footer, height_in=height)


if __name__ == "__main__":
    run_main(main)
