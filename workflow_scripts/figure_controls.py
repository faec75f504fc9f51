"""Figure: each claim as it is (band) and under each control (points), with t intervals over seeds."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.errors import run_main
from prerl.publishing import plotting
from prerl.publishing.claims import CLAIMS
from prerl.publishing.controls import as_is_of, effects, evidence_of
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLACK, GREY, VERMILLION
from prerl.publishing.noted import note

COLUMNS = 2
STYLE = {"color": VERMILLION, "linestyle": "-", "marker": "o"}
UNITS = {True: "ratio", False: "pp"}


def draw(block: SubFigure, questions: pd.DataFrame, scores: pd.DataFrame, curves: pd.DataFrame, settings: dict) -> None:
    """A panel per claim of one model."""
    model = settings["model"]
    tables = {"questions": {model: questions}, "scores": {model: scores}, "curves": {model: curves}}
    table = effects(evidence_of(settings | {"models": [model]}, tables))
    claims = [claim for claim in CLAIMS if claim.name in set(table["claim"])]
    if not claims:
        block.text(0.5, 0.5, "no claim's methods ran both as they are and under a control", ha="center")
        return
    panels = block.subplots(-(-len(claims) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axes, claim in zip(panels, claims, strict=False):
        rows = table[table["claim"] == claim.name]
        as_is = as_is_of(table, claim.name)
        axes.axvspan(as_is.low, as_is.high, color=BLACK, alpha=0.12, linewidth=0)
        axes.axvline(as_is.value, color=BLACK, linewidth=1)
        note(axes, "rule", "as it is", STYLE, [as_is.value], [])
        axes.axvline(claim.null, color=GREY, linewidth=0.7, linestyle=":")
        for place, (_, row) in enumerate(rows.iterrows()):
            bars = [[row["under"] - row["under_low"]], [row["under_high"] - row["under"]]]
            axes.errorbar(row["under"], -place, xerr=bars, color=VERMILLION, marker="o", markersize=3, elinewidth=1)
            name, bounds = settings["controls"][row["control"]]["label"], (row["under_low"], row["under_high"])
            note(axes, "dots", name, STYLE, [row["under"]], [-place], low=bounds[:1], high=bounds[1:])
        axes.set_yticks(
            [-place for place in range(len(rows))], [settings["controls"][name]["label"] for name in rows["control"]]
        )
        axes.set_title(f"{claim.name} ({UNITS[claim.is_ratio]})")
        axes.set_ylim(-len(rows) + 0.5, 0.5)
    for axes in panels[len(claims) :]:
        axes.set_axis_off()


def main() -> None:
    """Draw the claims under their controls."""
    job = read_job(__doc__, ["questions", "scores", "curves"], FIGURE)
    footer = f"black: as it is; red: under the control; dotted: null; {plotting.seeds_text(job.settings)}"
    plotting.draw_models(job, draw, footer, height_in=9.5)


if __name__ == "__main__":
    run_main(main)
