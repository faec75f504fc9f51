"""Drawing of figures: bands over seeds, points, histograms; saving them with the values that they show.

The look is figures.mplstyle. Methods differ in line style and marker as well as in colour (labels.py), so that a grey
print stays readable. What these functions draw is also noted down (noted.py): the figure's values as CSV, and as JSON
for the page. Files carry no time stamp: the same data and records of jobs give the same bytes.
"""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from prerl.core.statistics import t_interval
from prerl.publishing import provenance
from prerl.publishing.inputs import Job
from prerl.publishing.labels import GREY, RULE
from prerl.publishing.noted import note, write_values
from prerl.publishing.series import over_seeds

STYLE = Path(__file__).with_name("figures.mplstyle")
FOOTER_COLUMNS = 98  # characters of its font across the figure
MANY_SEEDS = 5  # up to this many seeds are also drawn as thin lines
SMOOTHED_UPDATES = 5


def new_figure(job: Job, footer: str, height_in: float) -> Figure:
    """An empty figure with the scale, `footer` and provenance in small print below."""
    mpl.rcdefaults()
    mpl_style.use(STYLE)
    figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], height_in), layout="constrained")
    texts = (f"{job.settings['scale']}; {footer}", provenance.line(job.provenance))
    lines = [line for text in texts for line in textwrap.wrap(text, FOOTER_COLUMNS)]
    figure.supxlabel("\n".join(lines), fontsize=6.5, color="#444444", x=0.01, ha="left")
    return figure


def draw_models(job: Job, draw: Callable[..., None], footer: str, height_in: float) -> None:
    """Write a figure with one block of `height_in` per model (named if there are several), the scale's name, `footer`.

    draw(block, table of each input in the order of the command line, settings) fills the block of settings["model"].
    """
    models = job.settings["models"]
    figure = new_figure(job, footer, height_in * len(models))
    blocks = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
    for block, model in zip(blocks, models, strict=True):
        if len(models) > 1:
            block.suptitle(model)
        draw(block, *(tables[model] for tables in job.tables.values()), job.settings | {"model": model})
    write(job, figure, dict(zip(models, blocks, strict=True)))


def write(job: Job, figure: Figure, blocks: dict[str, SubFigure] | None = None) -> None:
    """Write the figure of a job, its provenance in the files too. blocks: of each model, if they are apart."""
    panels = {job.settings["models"][0]: list(figure.axes)}
    if blocks is not None:
        panels = {model: list(block.axes) for model, block in blocks.items()}
    save(figure, panels, job.outputs, provenance.line(job.provenance))


def seeds_text(settings: dict) -> str:
    """'5 seeds, mean and 95 % t interval' for a footer."""
    count = len(settings["seeds"])
    return (
        f"{count} seeds, mean and {100 * settings['confidence']:g} % t interval" if count > 1 else "1 seed, no interval"
    )


def smoothed(table: pd.DataFrame) -> pd.DataFrame:
    """Each seed's mean over SMOOTHED_UPDATES updates around each (fewer at the ends, and where some are null)."""
    return table.rolling(SMOOTHED_UPDATES, center=True, min_periods=1).mean()


def band(
    axes: Axes,
    table: pd.DataFrame,
    style: dict,
    label: str,
    confidence: float,
    x: Iterable | None = None,
    smooth: bool = False,
) -> None:
    """Mean line, t band and (up to five seeds) a thin line per seed. `table`: index x, a column per seed.

    smooth: all of these of the `smoothed` table, with the raw mean as a faint line behind.
    """
    raw, table = table, smoothed(table) if smooth else table
    summary = over_seeds(table, confidence)
    if summary.empty:
        return
    at = pd.Series(list(table.index if x is None else x), index=table.index).loc[summary.index].to_numpy(dtype=float)
    color, shown = style["color"], table.loc[summary.index]
    single = raw.loc[summary.index].mean(axis=1) if smooth else None
    if single is not None:
        axes.plot(at, single, color=color, linewidth=0.5, alpha=0.3)
    elif table.shape[1] <= MANY_SEEDS:
        axes.plot(at, shown.to_numpy(dtype=float), color=color, linewidth=0.4, alpha=0.35)
    axes.fill_between(at, summary["low"], summary["high"], color=color, alpha=0.16, linewidth=0)
    every = max(1, len(at) // 8)
    axes.plot(at, summary["mean"], label=label, markevery=every, markeredgewidth=0.9, **style)
    seeds = {str(seed): shown[seed] for seed in shown}
    low, high = summary["low"], summary["high"]
    note(axes, "line", label, style, at, summary["mean"], low=low, high=high, raw=single, seeds=seeds)


def mean_point(
    axes: Axes, x: float, values: pd.Series, style: dict, confidence: float, name: str, in_legend: bool = False
) -> None:
    """Mean with its t interval at `x`; up to five values are shown beside it as small dots. values: indexed by seed."""
    data = values.to_numpy(dtype=float)
    mean, low, high = t_interval(data, confidence)
    bars = [[np.nan_to_num(mean - low)], [np.nan_to_num(high - mean)]]
    axes.errorbar(
        [x], [mean], yerr=bars, color=style["color"], marker=style["marker"], linestyle="none", markersize=4.5,
        elinewidth=1, label=name if in_legend else None,
    )  # fmt: skip
    if len(data) <= MANY_SEEDS:
        axes.plot(np.full(len(data), x + 0.2), data, ".", color=style["color"], alpha=0.5, markersize=2.5)
    seeds = {str(seed): [value] for seed, value in zip(values.index, data, strict=True)}
    note(axes, "points", name, style, [x], [mean], low=[low], high=[high], seeds=seeds)


def outline(axes: Axes, data: pd.Series, edges: np.ndarray, weights: np.ndarray, style: dict, label: str) -> None:
    """Outline of one weighted histogram; what lies beyond the first and last edge counts in the end bins."""
    inside = np.clip(data.to_numpy(), edges[0], edges[-1])
    heights, _ = np.histogram(inside, edges, weights=weights)
    axes.stairs(heights, edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.2, label=label)
    note(axes, "steps", label, style, edges, heights)


def marker_line(axes: Axes, label: str, *, x: float | None = None, y: float | None = None) -> None:
    """A dotted grey line through the whole panel, at `x` or at `y`."""
    if x is not None:
        axes.axvline(x, color=GREY, linestyle=":", linewidth=1, label=label)
    if y is not None:
        axes.axhline(y, color=GREY, linestyle=":", linewidth=1, label=label)
    note(axes, "rule", label, RULE, [] if x is None else [x], [] if y is None else [y])


def shared_legend(block: SubFigure, axes: Axes, columns: int) -> None:
    """One legend below all panels of a block, from the labels of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    block.legend(handles, labels, loc="outside lower center", ncols=columns)


def save(figure: Figure, panels: dict[str, list[Axes]], outputs: dict[str, Path], origin: str) -> None:
    """Write pdf and png, `origin` in their metadata, csv and json; no time stamps: a rerun gives the same bytes."""
    plain = {"CreationDate": None, "Producer": None, "Creator": None, "Keywords": origin or None}
    figure.savefig(outputs["pdf"], metadata=plain)
    figure.savefig(outputs["png"], metadata={"Software": None} | ({"Provenance": origin} if origin else {}))
    write_values(panels, outputs["csv"], outputs["json"])
