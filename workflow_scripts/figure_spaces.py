"""Figure: accuracy, length and log π(y|x) by update for updates in the post-train (RL) and pre-train (PreRL) space."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import BLACK, BLUE, label, line

COLUMNS = {
    "All samples": ("grpo", "prerl"),
    "Positive samples only": ("psr_rl", "psr_prerl"),
    "Negative samples only": ("nsr_rl", "nsr_prerl"),
}
ROWS = {
    "Validation accuracy (%)": ("validation", "accuracy", MEAN, 100.0),
    "Response length (tokens)": ("validation", "response_tokens_mean", MEAN, 1.0),
    "log π(y|x) of right samples\n(nats per token)": ("train", "logp_yx_right", "", 1.0),
    "log π(y|x) of wrong samples\n(nats per token)": ("train", "logp_yx_wrong", "", 1.0),
}
STYLES = (line(BLACK, "-", "ring"), line(BLUE, "--", "^"))  # post-train space, pre-train space


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Fill the grid of one model: a row per quantity, a column per choice of samples, RL against PreRL in each."""
    grid = block.subplots(len(ROWS), len(COLUMNS), sharex=True, sharey="row")
    for row, (quantity, (kind, name, benchmark, factor)) in zip(grid, ROWS.items(), strict=True):
        row[0].set_ylabel(quantity)
        for axes, methods in zip(row, COLUMNS.values(), strict=True):
            for method, style in zip(methods, STYLES, strict=True):
                if method in settings["methods"]:
                    table = factor * results.curve(curves, settings, method, name, kind, benchmark)
                    plotting.band(axes, table, style, label(settings, method), settings["confidence"])
    for axes, title in zip(grid[0], COLUMNS, strict=True):
        axes.set_title(title)
        if axes.has_data():
            axes.legend(loc="best")
    for axes in grid[0]:
        axes.set_ylim(bottom=0)
    for axes in grid[-1]:
        axes.set_xlabel("Update")


def main() -> None:
    """Draw RL against PreRL."""
    job = read_job(__doc__, ["curves"], FIGURE)
    answers, sets = job.settings["validation_answers"], ", ".join(job.settings["validation_benchmarks"])
    footer = f"{plotting.seeds_text(job.settings)}; validation: {sets}, n = {answers:,} answers per validation and seed"
    plotting.draw_models(job, draw, footer, height_in=6.4)


if __name__ == "__main__":
    run_main(main)
