"""Figure: entropy, response length and solved training prompts by update, DSRL against GRPO."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import GREY, label, style

METHODS = ("grpo", "dsrl")
PANELS = {
    "Entropy\n(nats per token)": ("entropy_nats", 1.0),
    "Response length\n(tokens)": ("response_tokens_mean", 1.0),
    "Fully solved prompts\n(%, all samples right)": ("prompts_solved", 100.0),
    "Prompts solved at all\n(%, any sample right)": ("prompts_any_solved", 100.0),
}


def draw(block: SubFigure, curves: pd.DataFrame, settings: dict) -> None:
    """Four panels; the vertical line is DSRL's switch from NSR-PreRL to GRPO."""
    panels = block.subplots(1, len(PANELS))
    for axes, (title, (name, factor)) in zip(panels, PANELS.items(), strict=True):
        for method in METHODS:
            if method in settings["methods"]:
                table = factor * results.curve(curves, settings, method, name)
                plotting.band(axes, table, style(settings, method), label(settings, method), settings["confidence"])
        axes.axvline(settings["switch_update"] + 0.5, color=GREY, linestyle=":", linewidth=1, label="DSRL's switch")
        axes.set_title(title)
        axes.set_xlabel("Update")
        axes.set_ylim(bottom=0)
    plotting.shared_legend(block, panels[0], len(METHODS) + 1)


def main() -> None:
    """Draw entropy, length and solved prompts."""
    job = read_job(__doc__, ["curves"], FIGURE)
    rollouts = f"rollouts of training, {job.settings['prompts_per_update']} prompts per update and seed"
    plotting.draw_models(job, draw, f"{plotting.seeds_text(job.settings)}; {rollouts}", height_in=2.3)


if __name__ == "__main__":
    run_main(main)
