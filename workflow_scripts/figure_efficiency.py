"""Figure: validation accuracy of DSRL and GRPO by updates, by tokens and by seconds."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import GREY, label, style

METHODS = ("grpo", "dsrl")
COSTS = {
    "Updates": None,
    "Tokens sampled and trained (millions)": (("tokens_sampled", "tokens_trained"), 1e6),
    "Time to sample, grade and train (minutes)": (("seconds_sampling", "seconds_grading", "seconds_training"), 60.0),
}


def cumulative(curves: pd.DataFrame, settings: dict, method: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Sum of `names` over updates 1 … u of the whole chain: index u with a zero row for u = 0, a column per seed."""
    per_update = sum(results.curve(curves, settings, method, name) for name in names)
    total = per_update.cumsum()
    total.loc[0] = 0.0
    return total.sort_index()


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Three panels: the same accuracies against three costs, each cost averaged over seeds for the x axis."""
    panels = block.subplots(1, len(COSTS), sharey=True)
    for axes, (title, cost) in zip(panels, COSTS.items(), strict=True):
        for method in METHODS:
            if method not in settings["methods"]:
                continue
            accuracy = 100 * results.curve(curves, settings, method, "accuracy", "validation", MEAN)
            x = None
            if cost is not None:
                names, unit = cost
                x = (cumulative(curves, settings, method, names).mean(axis=1) / unit).loc[accuracy.index]
            plotting.band(axes, accuracy, style(settings, method), label(settings, method), settings["confidence"], x)
        axes.set_xlabel(title)
        axes.set_ylim(bottom=0)
    panels[0].axvline(settings["switch_update"], color=GREY, linestyle=":", linewidth=1, label="DSRL's switch")
    panels[0].set_ylabel("Validation accuracy (%)")
    panels[0].legend(loc="lower right")


def main() -> None:
    """Draw accuracy against three costs."""
    job = read_job(__doc__, ["curves"], FIGURE)
    footer = (
        f"{plotting.seeds_text(job.settings)}; validation excluded from the costs; "
        f"n = {job.settings['validation_answers']:,} answers per validation and seed"
    )
    plotting.draw_models(job, draw, footer, height_in=2.5)


if __name__ == "__main__":
    run_main(main)
