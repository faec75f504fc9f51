"""Shared look of the figures: sizes, bands over seeds, saving.

Methods differ in line style and marker as well as in colour (labels.py), so that a grey print stays readable. Files
carry no time stamp: the same data and records of jobs give the same bytes.
"""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prerl.core.statistics import t_interval
from prerl.publishing import provenance
from prerl.publishing.inputs import Job

TWO_COLUMNS_IN = 7.1
FOOTER_CHARACTERS = 180  # of a line of the footer
MANY_SEEDS = 5  # up to this many seeds are also drawn as thin lines
RC = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E2E2E2",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


def new_figure(job: Job, footer: str, height_in: float) -> Figure:
    """An empty figure two columns wide, with the scale, `footer` and provenance in small print below."""
    mpl.rcParams.update(RC)
    figure = Figure(figsize=(TWO_COLUMNS_IN, height_in), layout="constrained")
    lines = [f"{job.settings['scale']}; {footer}", *textwrap.wrap(provenance.line(job.provenance), FOOTER_CHARACTERS)]
    figure.supxlabel("\n".join(lines), fontsize=5.5, color="#444444", x=0.99, ha="right")
    return figure


def draw_models(job: Job, draw: Callable[..., None], footer: str, height_in: float) -> None:
    """Write a figure with one block of `height_in` per model (named if there are several) and a small footer line.

    draw(block, table of each input in the order of the command line, settings) fills the block of settings["model"].
    """
    models = job.settings["models"]
    figure = new_figure(job, footer, height_in * len(models))
    blocks = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
    for block, model in zip(blocks, models, strict=True):
        if len(models) > 1:
            block.suptitle(model, fontsize=8, fontweight="bold")
        draw(block, *(tables[model] for tables in job.tables.values()), job.settings | {"model": model})
    write(job, figure)


def write(job: Job, figure: Figure) -> None:
    """Write the figure of a job, its provenance in the files too."""
    save(figure, job.outputs["pdf"], job.outputs["png"], provenance.line(job.provenance))


def seeds_text(settings: dict) -> str:
    """'5 seeds, mean and 95 % t interval' for a footer."""
    count = len(settings["seeds"])
    return (
        f"{count} seeds, mean and {100 * settings['confidence']:g} % t interval" if count > 1 else "1 seed, no interval"
    )


def over_seeds(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Columns mean, low, high over the seed columns of `table`; rows without any value are dropped.

    A row in which some seeds are null (no such samples in that update) uses the seeds that have a value.
    """
    table = table.dropna(how="all")
    rows = [t_interval(row[np.isfinite(row)], confidence) for row in table.to_numpy(dtype=float)]
    return pd.DataFrame(rows, index=table.index, columns=["mean", "low", "high"], dtype=float)


def band(
    axes: Axes, table: pd.DataFrame, style: dict, label: str, confidence: float, x: Iterable | None = None
) -> None:
    """Mean line, t band and (up to five seeds) a thin line per seed. `table`: index x, a column per seed."""
    summary = over_seeds(table, confidence)
    if summary.empty:
        return
    at = pd.Series(list(table.index if x is None else x), index=table.index).loc[summary.index].to_numpy(dtype=float)
    color = style["color"]
    if table.shape[1] <= MANY_SEEDS:
        axes.plot(at, table.loc[summary.index].to_numpy(dtype=float), color=color, linewidth=0.4, alpha=0.35)
    axes.fill_between(at, summary["low"], summary["high"], color=color, alpha=0.16, linewidth=0)
    every = max(1, len(at) // 8)
    axes.plot(at, summary["mean"], label=label, markevery=every, markeredgewidth=0.9, **style)


def mean_point(
    axes: Axes, x: float, values: pd.Series, style: dict, confidence: float, label: str | None = None
) -> None:
    """Mean with its t interval at `x`; up to five values are shown beside it as small dots."""
    data = values.to_numpy(dtype=float)
    mean, low, high = t_interval(data, confidence)
    bars = [[np.nan_to_num(mean - low)], [np.nan_to_num(high - mean)]]
    axes.errorbar(
        [x], [mean], yerr=bars, color=style["color"], marker=style["marker"], linestyle="none", markersize=4.5,
        capsize=2.5, elinewidth=1, label=label,
    )  # fmt: skip
    if len(data) <= MANY_SEEDS:
        axes.plot(np.full(len(data), x + 0.2), data, ".", color=style["color"], alpha=0.5, markersize=2.5)


def shared_legend(block: SubFigure, axes: Axes, columns: int) -> None:
    """One legend below all panels of a block, from the labels of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    block.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3)


def save(figure: Figure, pdf: Path, png: Path, origin: str) -> None:
    """Write both files, `origin` in their metadata; no time stamps or software names: a rerun gives the same."""
    figure.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None, "Keywords": origin or None})
    figure.savefig(png, metadata={"Software": None} | ({"Provenance": origin} if origin else {}))
