"""Figure: validation accuracy of DSRL and GRPO by updates, tokens, FLOPs and seconds."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import efficiency, plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import GREY, label, style

TITLES = {
    "updates": "Updates",
    "tokens": "Tokens sampled and trained (millions)",
    "flops": "TFLOPs to sample and train",
    "seconds": "Time to sample, grade and train (minutes)",
}


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Four panels: the same accuracies against four costs, each cost averaged over seeds for the x axis."""
    panels = block.subplots(1, len(TITLES), sharey=True)
    for axes, (cost, title) in zip(panels, TITLES.items(), strict=True):
        for method in efficiency.METHODS:
            if method not in settings["methods"]:
                continue
            accuracy = 100 * results.curve(curves, settings, method, "accuracy", "validation", MEAN)
            spent = efficiency.costs(curves, settings, settings["model"], method)[cost]
            x = (spent.mean(axis=1) / efficiency.UNITS[cost]).loc[accuracy.index]
            plotting.band(axes, accuracy, style(settings, method), label(settings, method), settings["confidence"], x)
        axes.set_xlabel(title)
        axes.set_ylim(bottom=0)
    panels[0].axvline(settings["switch_update"], color=GREY, linestyle=":", linewidth=1, label="DSRL's switch")
    panels[0].set_ylabel("Validation accuracy (%)")
    panels[0].legend(loc="lower right")


def main() -> None:
    """Draw accuracy against four costs."""
    job = read_job(__doc__, ["curves"], FIGURE)
    footer = (
        f"{plotting.seeds_text(job.settings)}; validation excluded from the costs; "
        f"n = {job.settings['validation_answers']:,} answers per validation and seed"
    )
    plotting.draw_models(job, draw, footer, height_in=2.5)


if __name__ == "__main__":
    run_main(main)
