"""Figure: where DSRL gains on GRPO: share of careful answers under the prompt against their share in P(y)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from prerl.core.errors import run_main
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLUE
from prerl.publishing.noted import note
from prerl.publishing.regimes import SCALARS, cells

PANEL_IN = 2.4
STYLE = {"color": BLUE, "linestyle": "-", "marker": "o"}


def draw_panel(axes: Axes, table: pd.DataFrame, limit: float) -> None:
    """One scalar and S: a cell per organism with mean and interval, blue above zero, red below."""
    grid = table.pivot(index="under_prompt", columns="alone", values="difference").sort_index(ascending=False)
    axes.imshow(grid, cmap="RdBu", norm=TwoSlopeNorm(0.0, -limit, limit), aspect="auto")
    for _, row in table.iterrows():
        place = grid.columns.get_loc(row["alone"]), grid.index.get_loc(row["under_prompt"])
        dark = abs(row["difference"]) > 0.6 * limit
        text = f"{row['difference']:+.1f}\n[{row['low']:.1f}, {row['high']:.1f}]"
        axes.text(*place, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")
    axes.set_xticks(range(len(grid.columns)), [f"{100 * share:g} %" for share in grid.columns])
    axes.set_yticks(range(len(grid.index)), [f"{100 * share:g} %" for share in grid.index])
    axes.grid(visible=False)
    for alone, rows in table.sort_values("under_prompt").groupby("alone"):
        shares, name = 100 * rows["under_prompt"], f"{100 * alone:g} % careful in P(y)"
        note(axes, "points", name, STYLE, shares, rows["difference"], low=rows["low"], high=rows["high"])


def main() -> None:
    """Draw a column of panels for each S, a row for each scalar; one scale of colours a row."""
    job = read_job(__doc__, ["questions", "curves"], FIGURE)
    table = cells(job.tables["questions"], job.tables["curves"], job.settings)
    lengths = sorted(table["S"].unique())
    footer = f"DSRL - GRPO, {plotting.seeds_text(job.settings)}"
    figure = plotting.new_figure(job, footer, PANEL_IN * len(SCALARS) + 0.3)
    panels = figure.subplots(len(SCALARS), len(lengths), squeeze=False, sharex=True, sharey=True)
    for line, (scalar, title) in enumerate(SCALARS.items()):
        rows = table[table["scalar"] == scalar]
        limit = float(np.abs(rows["difference"]).max()) or 1.0
        for column, steps in enumerate(lengths):
            axes = panels[line][column]
            draw_panel(axes, rows[rows["S"] == steps], limit)
            axes.set_title(f"S = {steps}: {title}", fontsize=7)
            if line == len(SCALARS) - 1:
                axes.set_xlabel("careful in P(y)")
            if not column:
                axes.set_ylabel("careful under the prompt")
    plotting.write(job, figure)


if __name__ == "__main__":
    run_main(main)
