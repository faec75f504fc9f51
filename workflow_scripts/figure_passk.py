"""Figure: pass@k against k for the base model and the trained policies, per benchmark and for their mean."""

import math

import pandas as pd
from matplotlib.figure import SubFigure
from matplotlib.ticker import NullLocator

from prerl.core.constants import BASE, MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import label, style

METHODS = (BASE, "grpo", "nsr_prerl", "dsrl", "nsr_rl_warmup")
PANELS_PER_ROW = 3


def benchmarks(settings: dict) -> list[str]:
    """'mean' (unweighted, main benchmarks) first, then every benchmark."""
    return [MEAN, *settings["main_benchmarks"], *settings["ood_benchmarks"]]


def rows_of_panels(settings: dict) -> int:
    """Number of rows of panels."""
    return math.ceil(len(benchmarks(settings)) / PANELS_PER_ROW)


def draw(block: SubFigure, scores: pd.DataFrame, settings: dict) -> None:
    """One panel per benchmark."""
    names = benchmarks(settings)
    panels = block.subplots(rows_of_panels(settings), min(PANELS_PER_ROW, len(names)), sharey=True, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.remove()
    for axes, benchmark in zip(panels.flat, names, strict=False):
        for method in METHODS:
            if method != BASE and method not in settings["methods"]:
                continue
            update = results.end_update(settings, method)
            rows = results.pass_at_k(scores, settings, method, update, benchmark)
            table = 100 * rows.pivot(index="k", columns="seed", values="value")
            plotting.band(axes, table, style(settings, method), label(settings, method), settings["confidence"])
        axes.set_xscale("log", base=2)
        axes.set_xticks(table.index, [str(k) for k in table.index])
        axes.xaxis.set_minor_locator(NullLocator())
        out = " (OOD)" if benchmark in settings["ood_benchmarks"] else ""
        axes.set_title("mean of main sets" if benchmark == MEAN else f"{benchmark}{out}")
        axes.set_label(f"pass@k (%), {axes.get_title(loc='left')}")
        axes.set_xlabel("k")
    for axes in panels[:, 0]:
        axes.set_ylabel("pass@k (%)")
    panels[0, 0].set_ylim(-3, 103)
    plotting.shared_legend(block, panels.flat[0], 3)


def main() -> None:
    """Draw pass@k of every benchmark."""
    job = read_job(__doc__, ["scores"], FIGURE)
    settings = job.settings
    base = results.pass_at_k(job.tables["scores"][settings["models"][0]], settings, BASE, 0, MEAN)
    footer = (
        f"{plotting.seeds_text(settings)}; n = {settings['samples_per_question']} answers to each of "
        f"{base['n_questions'].iloc[0]:,} main questions; methods at the end of their runs; OOD: out of distribution"
    )
    plotting.draw_models(job, draw, footer, height_in=0.9 + 1.7 * rows_of_panels(settings))


if __name__ == "__main__":
    run_main(main)
