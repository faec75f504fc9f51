"""Figure: validation accuracy of DSRL and GRPO by updates, tokens, FLOPs and seconds."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import efficiency, plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import label, style

TITLES = {
    "updates": "Updates",
    "tokens": "Tokens sampled and trained (millions)",
    "flops": "TFLOPs to sample and train",
    "seconds": "Minutes to sample, grade and train",
}


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Four panels: the same accuracies against four costs, each cost averaged over seeds for the x axis."""
    panels = block.subplots(2, 2, sharey=True)
    for axes, (cost, title) in zip(panels.flat, TITLES.items(), strict=True):
        for method in efficiency.METHODS:
            if method not in settings["methods"]:
                continue
            accuracy = 100 * results.curve(curves, settings, method, "accuracy", "validation", MEAN)
            spent = efficiency.costs(curves, settings, settings["model"], method)[cost]
            x = (spent.mean(axis=1) / efficiency.UNITS[cost]).loc[accuracy.index]
            plotting.band(axes, accuracy, style(settings, method), label(settings, method), settings["confidence"], x)
        axes.set_xlabel(title)
        axes.set_ylim(bottom=0)
        axes.set_label(f"Validation accuracy (%). {title}")
    plotting.marker_line(panels[0, 0], "DSRL's switch", x=settings["switch_update"])
    for axes in panels[:, 0]:
        axes.set_ylabel("Validation\naccuracy (%)")
    plotting.shared_legend(block, panels[0, 0], len(efficiency.METHODS) + 1)


def main() -> None:
    """Draw accuracy against four costs."""
    job = read_job(__doc__, ["curves"], FIGURE)
    footer = (
        f"{plotting.seeds_text(job.settings)}; validation excluded from the costs; "
        f"n = {job.settings['validation_answers']:,} answers per validation and seed"
    )
    plotting.draw_models(job, draw, footer, height_in=4.0)


if __name__ == "__main__":
    run_main(main)
