"""Figure: how well ∇log P(y|x) and ∇log P(y) of the base model align, with two controls."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import StrMethodFormatter

from prerl.core.errors import run_main
from prerl.core.statistics import Interval, cluster_bootstrap_mean
from prerl.publishing import paper, plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLACK, BLUE, GREY, ORANGE, VERMILLION

OUTCOMES = {
    "right": (True, {"color": BLUE, "linestyle": "-", "marker": "o"}),
    "wrong": (False, {"color": VERMILLION, "linestyle": "--", "marker": "^"}),
}
PARTNERS = {  # what ∇log P(y) is compared with: column prefix and line style
    "same y, x": ("", {"color": BLACK, "linestyle": "-", "marker": "o"}),
    "same y, other x": ("other_x_", {"color": ORANGE, "linestyle": "--", "marker": "^"}),
    "other y, other x": ("other_xy_", {"color": BLUE, "linestyle": ":", "marker": "s"}),
}
# in the order of ours: mean; least, most; negative
PAPER_INNER = (
    f"paper ({paper.GRADE}): {paper.INNER_MEAN:+.2f}; {paper.INNER_LEAST:+.2f}, {paper.INNER_MOST:+.2f}; "
    f"{paper.NEGATIVE_PERCENT} %"
)
ROLLOUT_KEYS = ["seed", "benchmark", "question", "sample"]


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
    """Mean entropy of the decile each token falls into (ties share a bin)."""
    decile = pd.qcut(rows["entropy_yx"], 10, duplicates="drop")
    return rows.groupby(decile, observed=True)["entropy_yx"].transform("mean")


def outline(axes: Axes, data: pd.Series, edges: np.ndarray, weights: np.ndarray, style: dict, label: str) -> None:
    """Outline of one weighted histogram with a line as its legend entry (an empty label gives no entry)."""
    color, linestyle = style["color"], style["linestyle"]
    axes.hist(data, list(edges), weights=weights, histtype="step", color=color, linestyle=linestyle, linewidth=1.2)
    if label:
        axes.plot([], [], color=color, linestyle=linestyle, label=label)


def mean_over_questions(rows: pd.DataFrame, column: str, settings: dict) -> Interval:
    """Mean of `column` over rollouts (at least one not NaN), with the interval that resamples whole questions."""
    values = rows[column].dropna()
    questions = rows.loc[values.index, ["seed", "benchmark", "question"]].astype(str).agg("/".join, axis=1)
    return cluster_bootstrap_mean(values.to_numpy(), questions.to_numpy(), **settings["bootstrap"])


def three_digits(value: float) -> str:
    """Three significant digits with a thousands separator: 15,800."""
    return f"{float(f'{value:.3g}'):,g}"


def inner_numbers(axes: Axes, rows: pd.DataFrame, column: str, settings: dict) -> None:
    """Mean [interval], min, max and negative share of ⟨∇log P(y|x), ∇log P(y)⟩ beside the paper's."""
    inner = rows[column]
    mean, low, high = mean_over_questions(rows, column, settings)
    lines = [
        f"same y, x: mean {three_digits(mean)} [{three_digits(low)}, {three_digits(high)}];",
        f"min {three_digits(inner.min())}, max {three_digits(inner.max())}; {100 * (inner < 0).mean():.3g} % negative",
        PAPER_INNER,
    ]
    axes.set_ylim(top=1.4 * axes.get_ylim()[1])
    white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    text = axes.text(0.02, 0.99, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=5.6, bbox=white)
    text.set_in_layout(False)  # a long line must not narrow every panel


def cosine_legend(axes: Axes, rows: pd.DataFrame, settings: dict) -> None:
    """Name every partner with its mean cosine and the interval from resampling whole questions."""
    for name, (prefix, style) in PARTNERS.items():
        if rows[f"{prefix}cosine"].isna().all():
            continue
        mean, low, high = mean_over_questions(rows, f"{prefix}cosine", settings)
        text = f"{name}: {mean:.2f} [{low:.2f}, {high:.2f}]"
        axes.plot([], [], color=style["color"], linestyle=style["linestyle"], label=text)
    axes.set_ylim(top=1.4 * axes.get_ylim()[1])
    axes.legend(loc="upper center", fontsize=5.8)


def histograms(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Outlines of the distribution over rollouts for the three partners, with equal bins and a line at zero."""
    values = {name: rows[prefix + column].dropna() for name, (prefix, _) in PARTNERS.items()}
    low, high = pd.concat(values.values()).min(), pd.concat(values.values()).max()
    edges = np.linspace(low, high, 41) if high > low else np.linspace(low - 0.5, high + 0.5, 41)
    for name, data in values.items():
        outline(axes, data, edges, np.ones(len(data)), PARTNERS[name][1], "")
    axes.axvline(0, color=GREY, linewidth=0.7)


def negative_share(axes: Axes, rows: pd.DataFrame, confidence: float) -> None:
    """Share of negative inner products by partner, right and wrong rollouts apart."""
    for offset, (outcome, (is_right, style)) in zip((-0.28, 0.16), OUTCOMES.items(), strict=True):
        part = rows[rows["right"] == is_right]
        if part.empty:
            continue
        for x, (prefix, _) in enumerate(PARTNERS.values()):
            inner = part[f"{prefix}inner_mean"].dropna()
            if inner.empty:
                continue
            share = 100 * (inner < 0).groupby(units(part).loc[inner.index]).mean()
            plotting.mean_point(axes, x + offset, share, style, confidence, outcome if x == 0 else None)
    axes.set_xticks(range(len(PARTNERS)), [name.replace(", ", ",\n") for name in PARTNERS])
    axes.set_xlim(-0.6, len(PARTNERS) - 0.4)
    axes.set_ylim(-4, 104)
    axes.set_title("Negative inner products (%)")
    axes.legend()


def right_against_wrong(axes: Axes, rows: pd.DataFrame, settings: dict) -> None:
    """Distribution of the cosine (same y, x) over right and wrong rollouts, each normalised to one, with its mean."""
    edges = np.linspace(rows["cosine"].min() - 1e-6, rows["cosine"].max() + 1e-6, 31)
    for outcome, (is_right, style) in OUTCOMES.items():
        part = rows[(rows["right"] == is_right) & rows["cosine"].notna()]
        if len(part):
            mean, low, high = mean_over_questions(part, "cosine", settings)
            name = f"{outcome}, n = {len(part):,}: {mean:.2f} [{low:.2f}, {high:.2f}]"
            outline(axes, part["cosine"], edges, np.full(len(part), 100 / len(part)), style, name)
    axes.set_title("Cosine (same y, x) by outcome, [interval]")
    axes.set_ylabel("Rollouts (%)")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper center", fontsize=5.8)


def scatter(block: SubFigure, axes: Axes, tokens: pd.DataFrame) -> None:
    """Density of tokens over log P(y_t|x, …) and log P(y_t|…); the diagonal is agreement."""
    both = tokens[["logp_yx", "logp_y"]].dropna()
    low = float(both.quantile(0.001).min())
    cells = axes.hexbin(
        both["logp_yx"], both["logp_y"], gridsize=32, bins="log", cmap="cividis", mincnt=1, linewidths=0.1,
        extent=(low, 0, low, 0),
    )  # fmt: skip
    axes.plot([low, 0], [low, 0], color=VERMILLION, linewidth=0.8, linestyle="--")
    axes.set_xlim(low, -0.02 * low)
    axes.set_ylim(low, -0.02 * low)
    axes.set_title("Log-probability of each token (nats)")
    axes.set_xlabel("given x: log P(y_t | x, y_<t)")
    axes.set_ylabel("without x: log P(y_t | y_<t)")
    block.colorbar(cells, ax=axes, label="Tokens", pad=0.02)


def token_panels(panels: np.ndarray, tokens: pd.DataFrame, confidence: float) -> None:
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
                plotting.band(axes, by_bin(part, part[bins], column), style, outcome, confidence)
    for axes, title in zip(
        panels,
        ("|Δ log p| by position (nats)", "|Δ log p| by entropy (nats)", "Same most likely token (%)"),
        strict=True,
    ):
        axes.set_title(title)
        axes.set_xlabel("Position in the response (log scale)")
        axes.set_ylim(bottom=0)
        axes.legend()
    panels[1].set_xlabel("Entropy given x (nats, decile means)")
    panels[2].set_ylim(0, 103)
    for axes in (panels[0], panels[2]):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def draw(block: SubFigure, rows: pd.DataFrame, tokens: pd.DataFrame, settings: dict) -> None:
    """Nine panels of one model."""
    tokens = tokens.merge(rows[[*ROLLOUT_KEYS, "right"]], on=ROLLOUT_KEYS, validate="many_to_one")
    panels = block.subplots(3, 3)
    titles = {
        "inner_sum": "Inner product (summed log-probs)",
        "inner_mean": "Inner product (mean log-probs)",
        "cosine": "Cosine, mean [interval]",
    }
    for axes, (column, title) in zip(panels[0], titles.items(), strict=True):
        histograms(axes, rows, column)
        axes.set_title(title)
    panels[0][0].set_ylabel("Rollouts")
    inner_numbers(panels[0][0], rows, "inner_sum", settings)
    inner_numbers(panels[0][1], rows, "inner_mean", settings)
    cosine_legend(panels[0][2], rows, settings)
    negative_share(panels[1][0], rows, settings["confidence"])
    right_against_wrong(panels[1][1], rows, settings)
    scatter(block, panels[1][2], tokens)
    token_panels(panels[2], tokens, settings["confidence"])


def main() -> None:
    """Draw the alignment of the base model."""
    job = read_job(__doc__, ["alignment", "alignment_tokens"], FIGURE)
    rollouts, tokens = (sum(map(len, job.tables[name].values())) for name in ("alignment", "alignment_tokens"))
    seeds = len(job.settings["seeds"])
    unit = f"{seeds} seeds" if seeds > 1 else "questions (1 seed)"
    footer = (
        f"n = {rollouts:,} rollouts of the base, {tokens:,} tokens; lines and points: mean and "
        f"{100 * job.settings['confidence']:g} % t interval over {unit}; [ ]: bootstrap over questions"
    )
    plotting.draw_models(job, draw, footer, height_in=6.2)


if __name__ == "__main__":
    run_main(main)
