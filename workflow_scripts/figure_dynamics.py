"""Figure: entropy, response length and solved training prompts by update, DSRL against GRPO."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import label, style

METHODS = ("grpo", "dsrl")
PANELS = {
    "Entropy (nats per token)": ("entropy_nats", 1.0),
    "Response length (tokens)": ("response_tokens_mean", 1.0),
    "Prompts fully solved (%)": ("prompts_solved", 100.0),
    "Prompts solved at all (%)": ("prompts_any_solved", 100.0),
}


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Four panels; the vertical line is DSRL's switch from NSR-PreRL to GRPO."""
    panels = block.subplots(2, 2, sharex=True)
    for axes, (title, (name, factor)) in zip(panels.flat, PANELS.items(), strict=True):
        for method in METHODS:
            if method in settings["methods"]:
                table = factor * results.curve(curves, settings, method, name)
                look, name_shown = style(settings, method), label(settings, method)
                plotting.band(axes, table, look, name_shown, settings["confidence"], smooth=True)
        plotting.marker_line(axes, "DSRL's switch", x=settings["switch_update"] + 0.5)
        axes.set_title(title)
        axes.set_ylim(bottom=0)
    for axes in panels[-1]:
        axes.set_xlabel("Update")
    plotting.shared_legend(block, panels[0, 0], len(METHODS) + 1)


def main() -> None:
    """Draw entropy, length and solved prompts."""
    job = read_job(__doc__, ["curves"], FIGURE)
    footer = (
        f"{plotting.seeds_text(job.settings)}, of means over {plotting.SMOOTHED_UPDATES} updates (faint: single "
        f"updates); rollouts of training, {job.settings['prompts_per_update']} prompts per update and seed"
    )
    plotting.draw_models(job, draw, footer, height_in=3.7)


if __name__ == "__main__":
    run_main(main)
