"""Figure: how well ∇log P(y|x) and ∇log P(y) of the base model align, and how well with another context than x."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from prerl.core.errors import run_main
from prerl.core.statistics import Interval
from prerl.publishing import paper, plotting
from prerl.publishing.alignment import ALL, NAMES, ROLLOUT, excess, of_first_benchmark, over_questions, per_rollout
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLACK, BLUE, GREY, ORANGE, RULE, VERMILLION
from prerl.publishing.noted import note

OUTCOMES = {
    "right": (True, {"color": BLUE, "linestyle": "-", "marker": "o"}),
    "wrong": (False, {"color": VERMILLION, "linestyle": "--", "marker": "^"}),
}
OWN, OTHER, BOTH = "own_x", "other_x", "other_xy"
STYLES = {
    OWN: {"color": BLACK, "linestyle": "-", "marker": "o"},
    OTHER: {"color": ORANGE, "linestyle": "--", "marker": "^"},
    BOTH: {"color": BLUE, "linestyle": ":", "marker": "s"},
}
PAPER_INNER = f"paper ({paper.GRADE}): {paper.INNER_MEAN:+.2f}, {paper.NEGATIVE_PERCENT} % negative"
SEEN = (0.005, 0.995)  # quantiles between which a histogram is drawn; the rest is counted in its outermost bars


PANELS = [
    ["cosine", "cosine"],
    ["compared", "compared"],
    ["groups", "groups"],
    ["inner", "outcome"],
    ["tokens", "entropy"],
    ["position", "agreement"],
]


def units(rows: pd.DataFrame) -> pd.Series:
    """The unit of the intervals: the seed, or with one seed the question (its rollouts are not independent)."""
    return rows["seed"] if rows["seed"].nunique() > 1 else rows["benchmark"] + "/" + rows["question"]


def by_bin(rows: pd.DataFrame, bins: pd.Series, column: str) -> pd.DataFrame:
    """Mean of `column` by bin (index) and unit (columns)."""
    return rows.groupby([bins, units(rows)], observed=True)[column].mean().unstack()


def position_bins(position: pd.Series) -> pd.Series:
    """First position (from 1) of the bin each token falls into; bins widen with the position."""
    edges = np.unique(np.geomspace(1, position.max() + 2, 24).round().astype(int))
    return pd.Series(edges[np.searchsorted(edges, position + 1, side="right") - 1], index=position.index)


def entropy_bins(rows: pd.DataFrame) -> pd.Series:
    """Mean entropy of the bin each token falls into: two bins a decade from 0.001 nats up, one for all below."""
    edges = np.concatenate([[0.0], 10.0 ** np.arange(-3, 1.6, 0.5)])
    bins = np.searchsorted(edges, rows["entropy_yx"], side="right")
    return rows.groupby(bins)["entropy_yx"].transform("mean")


def shares(data: pd.Series) -> np.ndarray:
    """Weights that make a histogram one in % of its rollouts."""
    return np.full(len(data), 100 / len(data))


def histograms(axes: Axes, gradients: pd.DataFrame, column: str, compared: list[str]) -> None:
    """Distribution over rollouts (and draws) for each comparison, with equal bins and a line at zero."""
    whole = gradients[gradients["group"] == ALL]
    values = {name: whole.loc[whole["compared"] == name, column] for name in compared}
    low, high = pd.concat(values.values()).quantile(list(SEEN))
    edges = np.linspace(low, high, 41) if high > low else np.linspace(low - 0.5, high + 0.5, 41)
    for name, data in values.items():
        plotting.outline(axes, data, edges, shares(data), STYLES[name], NAMES[name])
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.set_ylabel("Rollouts (%)")
    legend_above(axes)


def legend_above(axes: Axes) -> None:
    """Room over the data for the legend."""
    axes.set_ymargin(0.6)
    axes.legend(loc="upper right", borderaxespad=0, fontsize=6.5, handlelength=1.6)


def dots(axes: Axes, intervals: dict[str, Interval], color: str) -> None:
    """A point with its interval for each name, from top to bottom; the names stand left of the values."""
    style = {"color": color, "linestyle": "-", "marker": "o"}
    for place, (name, (mean, low, high)) in enumerate(intervals.items()):
        bars = np.nan_to_num([[mean - low], [high - mean]])
        axes.errorbar([mean], [-place], xerr=bars, color=color, marker="o", markersize=3.5, elinewidth=1)
        note(axes, "dots", name, style, [mean], [-place], low=[low], high=[high])
        at = ("axes fraction", "data")
        axes.annotate(f"{name}: {mean:.3f}".replace("-", "−"), (0.01, -place), xycoords=at, va="center", fontsize=6.5)
    ends = [end for _, *bounds in intervals.values() for end in bounds if math.isfinite(end)]
    low, high = min(0, *ends), max(0, *ends)
    axes.set_xlim(low - 0.7 * (high - low), high + 0.05 * (high - low))
    axes.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.set_ylim(0.6 - len(intervals), 0.7)
    axes.axvline(0, color=GREY, linewidth=0.7)


def inner_panel(axes: Axes, gradients: pd.DataFrame, settings: dict) -> None:
    """Inner products of mean log-probs, with ours beside the paper's under the axis."""
    histograms(axes, gradients, "inner_mean", [OWN, OTHER])
    inner = per_rollout(gradients, OWN, "inner_mean")
    mean, low, high = (f"{value:,.3g}" for value in over_questions(inner, settings))
    ours = f"own x: {mean} [{low}, {high}], {100 * (inner < 0).mean():.3g} % negative"
    axes.set_title("Inner product, mean log-probs")
    axes.set_xlabel(f"{ours}\n{PAPER_INNER}", fontsize=6.5)


def right_against_wrong(axes: Axes, rows: pd.DataFrame, settings: dict) -> None:
    """Distribution of the cosine with the own x (column `cosine`) over right and wrong rollouts, with its mean."""
    edges = np.linspace(rows["cosine"].min() - 1e-6, rows["cosine"].max() + 1e-6, 31)
    for outcome, (is_right, style) in OUTCOMES.items():
        part = rows[rows["right"] == is_right]
        if len(part):
            mean, low, high = over_questions(part.set_index(ROLLOUT)["cosine"], settings)
            name = f"{outcome}, n = {len(part):,}: {mean:.2f} [{low:.2f}, {high:.2f}]"
            plotting.outline(axes, part["cosine"], edges, shares(part["cosine"]), style, name)
    axes.set_title("Cosine, own x, by outcome")
    axes.set_ylabel("Rollouts (%)")
    legend_above(axes)


def scatter(block: SubFigure, axes: Axes, tokens: pd.DataFrame) -> None:
    """Density of tokens over log P(y_t|x, …) and log P(y_t|…); the diagonal is agreement."""
    both = tokens[["logp_yx", "logp_y"]].dropna()
    low = float(both.quantile(0.001).min())
    cells = axes.hexbin(
        both["logp_yx"], both["logp_y"], gridsize=32, bins="log", cmap="cividis", mincnt=1, linewidths=0.1,
        extent=(low, 0, low, 0),
    )  # fmt: skip
    axes.plot([low, 0], [low, 0], color=VERMILLION, linewidth=0.8, linestyle="--")
    note(axes, "rule", "equal", RULE, [low, 0], [low, 0])
    axes.set_xlim(low, -0.02 * low)
    axes.set_ylim(low, -0.02 * low)
    axes.set_title("log P of each token (nats)")
    axes.set_xlabel("log P(y_t | x, y_<t)")
    axes.set_ylabel("log P(y_t | y_<t)")
    block.colorbar(cells, ax=axes, label="Tokens", pad=0.02)
    at = np.asarray(cells.get_offsets())
    look = {"color": GREY, "linestyle": "-", "marker": "o"}
    note(axes, "cells", "tokens", look, at[:, 0], at[:, 1], low=cells.get_array())


def token_panels(panels: list[Axes], tokens: pd.DataFrame, confidence: float) -> None:
    """|Δ log p| by position and by entropy, and agreement of the most likely token by position."""
    tokens = tokens.assign(
        gap=(tokens["logp_yx"] - tokens["logp_y"]).abs(),
        agreement=100.0 * tokens["same_top1"].astype(float),
        position_bin=position_bins(tokens["position"]),
        entropy_bin=entropy_bins(tokens),
    )
    for outcome, (is_right, style) in OUTCOMES.items():
        part = tokens[tokens["right"] == is_right]
        columns = (("gap", "position_bin"), ("gap", "entropy_bin"), ("agreement", "position_bin"))
        for axes, (column, bins) in zip(panels, columns, strict=True):
            if len(part):
                table = by_bin(part, part[bins], column)
                table = table.dropna(thresh=math.ceil(table.shape[1] / 2))  # a bin that few seeds fill has no spread
                plotting.band(axes, table, style, outcome, confidence)
    titles = ("|Δ log p| by position (nats)", "|Δ log p| by entropy (nats)", "Same most likely token (%)")
    names = ("Position in the response", "Entropy given x (nats)", "Position in the response")
    for axes, title, name in zip(panels, titles, names, strict=True):
        axes.set_title(title)
        axes.set_xlabel(name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_ylim(bottom=0)
        axes.legend()
    panels[2].set_ylim(0, 103)


def draw(block: SubFigure, rows: pd.DataFrame, gradients: pd.DataFrame, tokens: pd.DataFrame, settings: dict) -> None:
    """Nine panels of one model, on the first benchmark."""
    rows, gradients, tokens = (of_first_benchmark(table, settings) for table in (rows, gradients, tokens))
    rows = rows.join(per_rollout(gradients, OWN, "cosine"), on=ROLLOUT)
    tokens = tokens.merge(rows[[*ROLLOUT, "right"]], on=ROLLOUT, validate="many_to_one")
    panels: dict[str, Axes] = block.subplot_mosaic(PANELS, height_ratios=[1, 0.9, 1.1, 1, 1, 1])
    for axes in panels.values():
        axes.set_label("")  # titles name them
    histograms(panels["cosine"], gradients, "cosine", [OWN, OTHER, BOTH])
    panels["cosine"].set_title("Cosine of ∇log P(y) with ∇log P(y|·)")
    compared = {NAMES[name]: over_questions(per_rollout(gradients, name, "cosine"), settings) for name in NAMES}
    dots(panels["compared"], compared, BLACK)
    panels["compared"].set_title("Mean cosine with ∇log P(y|·)")
    groups = {group: over_questions(excess(gradients, group=group), settings) for group in gradients["group"].unique()}
    dots(panels["groups"], groups, VERMILLION)
    panels["groups"].set_title("Excess of the own x, by weights")
    inner_panel(panels["inner"], gradients, settings)
    right_against_wrong(panels["outcome"], rows, settings)
    scatter(block, panels["tokens"], tokens)
    token_panels([panels[name] for name in ("position", "entropy", "agreement")], tokens, settings["confidence"])


def main() -> None:
    """Draw the alignment of the base model."""
    job = read_job(__doc__, ["alignment", "gradients", "tokens"], FIGURE)
    rollouts, tokens = (
        sum(len(of_first_benchmark(table, job.settings)) for table in job.tables[name].values())
        for name in ("alignment", "tokens")
    )
    seeds = len(job.settings["seeds"])
    unit = f"{seeds} seeds" if seeds > 1 else "questions (1 seed)"
    footer = (
        f"{job.settings['alignment'][0]['benchmark']}, n = {rollouts:,} rollouts of the base, {tokens:,} tokens; [ ], "
        f"bars: bootstrap over questions; bands: mean and {100 * job.settings['confidence']:g} % t interval over {unit}"
    )
    plotting.draw_models(job, draw, footer, height_in=9.2)


if __name__ == "__main__":
    run_main(main)
