"""Figure: accuracy at the end of training against the number S of NSR-PreRL updates before GRPO."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import BASE
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import paper, plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import RULE, label, style
from prerl.publishing.noted import note


def sweep(questions: pd.DataFrame, settings: dict, benchmarks: list[str]) -> pd.DataFrame:
    """Accuracy in % at the end of every method of the sweep: index S, a column per seed."""
    by_steps = {}
    for steps, method in settings["warmup"]["s_values"].items():
        rows = results.evaluated(questions, settings, method, results.end_update(settings, method), benchmarks)
        by_steps[int(steps)] = 100 * results.accuracy(rows)
    return pd.DataFrame(by_steps).T.sort_index()


def draw(block: SubFigure, questions: pd.DataFrame, settings: dict) -> None:
    """Accuracy against S, for the main and, if any, the out-of-distribution benchmarks."""
    groups = {"Main benchmarks": settings["main_benchmarks"], "Out of distribution": settings["ood_benchmarks"]}
    groups = {name: benchmarks for name, benchmarks in groups.items() if benchmarks}
    swept = settings["warmup"]["method"]
    panels = block.subplots(1, len(groups), squeeze=False)[0]
    for axes, (name, benchmarks) in zip(panels, groups.items(), strict=True):
        table = sweep(questions, settings, benchmarks)
        axes.axvspan(*paper.WARMUP_BEST, color="#EEEEEE", linewidth=0, zorder=0)
        note(axes, "rule", "the paper's best S", RULE, paper.WARMUP_BEST, [])
        if 0 in table.index:
            plotting.marker_line(axes, "GRPO", y=table.loc[0].mean())
        plotting.band(axes, table, style(settings, swept), label(settings, swept), settings["confidence"])
        axes.set_title(name)
        axes.set_xticks(table.index)
        margin = 0.04 * max(table.index.max(), 1)
        axes.set_xlim(table.index.min() - margin, table.index.max() + margin)
        axes.set_xlabel("Updates S before GRPO")
    panels[0].set_ylabel(f"Accuracy, avg@{settings['samples_per_question']} (%)")


def main() -> None:
    """Draw the sweep."""
    job = read_job(__doc__, ["questions"], FIGURE)
    settings = job.settings
    first = job.tables["questions"][settings["models"][0]]
    answers = int(results.evaluated(first, settings, BASE, 0, settings["main_benchmarks"])["n"].sum())
    footer = (
        f"{plotting.seeds_text(settings)}; n = {answers:,} answers per S (main); all runs end at "
        f"update {settings['updates']}; dotted: GRPO; grey: the paper's best S; "
        f"main: {', '.join(settings['main_benchmarks'])}"
        + (f"; out of distribution: {', '.join(settings['ood_benchmarks'])}" if settings["ood_benchmarks"] else "")
    )
    plotting.draw_models(job, draw, footer, height_in=2.4)


if __name__ == "__main__":
    run_main(main)
