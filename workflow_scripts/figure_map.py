"""Figure: where DSRL gains on GRPO: share of careful answers under the prompt against their share in P(y)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from prerl.core.errors import run_main
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.regimes import SCALARS, cells

PANEL_IN = 2.4


def draw_panel(axes: Axes, table: pd.DataFrame, limit: float) -> None:
    """One scalar and S: a cell per organism with mean and interval, blue above zero, red below."""
    grid = table.pivot(index="under_prompt", columns="alone", values="difference").sort_index(ascending=False)
    axes.imshow(grid, cmap="RdBu", norm=TwoSlopeNorm(0.0, -limit, limit), aspect="auto")
    for _, row in table.iterrows():
        place = grid.columns.get_loc(row["alone"]), grid.index.get_loc(row["under_prompt"])
        dark = abs(row["difference"]) > 0.6 * limit
        text = f"{row['difference']:+.1f}\n[{row['low']:.1f}, {row['high']:.1f}]"
        axes.text(*place, text, ha="center", va="center", fontsize=5.2, color="white" if dark else "black")
    axes.set_xticks(range(len(grid.columns)), [f"{100 * share:g} %" for share in grid.columns])
    axes.set_yticks(range(len(grid.index)), [f"{100 * share:g} %" for share in grid.index])
    axes.grid(visible=False)


def main() -> None:
    """Draw a row of panels for each S, a column for each scalar; one scale of colours a column."""
    job = read_job(__doc__, ["questions", "curves"], FIGURE)
    table = cells(job.tables["questions"], job.tables["curves"], job.settings)
    lengths = sorted(table["S"].unique())
    footer = f"DSRL - GRPO, {plotting.seeds_text(job.settings)}"
    figure = plotting.new_figure(job, footer, PANEL_IN * len(lengths) + 0.3)
    panels = figure.subplots(len(lengths), len(SCALARS), squeeze=False)
    for column, (scalar, title) in enumerate(SCALARS.items()):
        rows = table[table["scalar"] == scalar]
        limit = float(np.abs(rows["difference"]).max()) or 1.0
        for line, steps in enumerate(lengths):
            axes = panels[line][column]
            draw_panel(axes, rows[rows["S"] == steps], limit)
            axes.set_title(f"S = {steps}: {title}")
            axes.set_xlabel("careful in P(y)")
            axes.set_ylabel("careful under the prompt")
    plotting.write(job, figure)


if __name__ == "__main__":
    run_main(main)
