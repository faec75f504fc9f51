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
    "Positive samples": ("psr_rl", "psr_prerl"),
    "Negative samples": ("nsr_rl", "nsr_prerl"),
}
ROWS = {
    "Validation\naccuracy (%)": ("validation", "accuracy", MEAN, 100.0),
    "Response length\n(tokens)": ("validation", "response_tokens_mean", MEAN, 1.0),
    "log π(y|x), right\n(nats per token)": ("train", "logp_yx_right", "", 1.0),
    "log π(y|x), wrong\n(nats per token)": ("train", "logp_yx_wrong", "", 1.0),
}
STYLES = (line(BLACK, "-", "ring"), line(BLUE, "--", "^"))  # post-train space, pre-train space


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Fill the grid of one model: a row per quantity, a column per choice of samples, RL against PreRL in each."""
    grid = block.subplots(len(ROWS), len(COLUMNS), sharex=True, sharey="row")
    for row, (quantity, (kind, name, benchmark, factor)) in zip(grid, ROWS.items(), strict=True):
        row[0].set_ylabel(quantity)
        for axes, (samples, methods) in zip(row, COLUMNS.items(), strict=True):
            axes.set_label(f"{quantity}. {samples}")
            for method, style in zip(methods, STYLES, strict=True):
                if method in settings["methods"]:
                    table = factor * results.curve(curves, settings, method, name, kind, benchmark)
                    by_update = kind == "train"  # noisy
                    plotting.band(axes, table, style, label(settings, method), settings["confidence"], smooth=by_update)
    for axes, title in zip(grid[0], COLUMNS, strict=True):
        axes.set_title(title)
        if axes.has_data():
            axes.legend(loc="upper left", borderaxespad=0.1)
    grid[0, 0].set_ylim(0, 1.35 * grid[0, 0].get_ylim()[1])  # room for the legends; the row shares it
    for axes in grid[-1]:
        axes.set_xlabel("Update")


def main() -> None:
    """Draw RL against PreRL."""
    job = read_job(__doc__, ["curves"], FIGURE)
    answers, sets = job.settings["validation_answers"], ", ".join(job.settings["validation_benchmarks"])
    footer = (
        f"{plotting.seeds_text(job.settings)}; validation: {sets}, n = {answers:,} answers per validation and seed; "
        f"log π: means over {plotting.SMOOTHED_UPDATES} updates (faint: single updates)"
    )
    plotting.draw_models(job, draw, footer, height_in=5.6)


if __name__ == "__main__":
    run_main(main)
