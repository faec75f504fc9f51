"""Figure: reflection and transition thoughts per answer and per 1,000 tokens, before and after training."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import BASE
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.evaluation.results import NotMeasured
from prerl.publishing import plotting
from prerl.publishing.inputs import FIGURE, read_job
from prerl.publishing.labels import label, style

THOUGHTS = ("reflections", "transitions")


def policies(settings: dict) -> list[tuple[str, int, str]]:
    """(method, update, label) of the policies shown, without methods that are not configured."""
    early = settings["reference_updates"]["nsr"]
    shown = [(BASE, 0, "Base")]
    for method, update in (("nsr_prerl", early), ("grpo", early), ("grpo", None)):
        try:
            at = results.end_update(settings, method) if update is None else update
        except NotMeasured:
            continue
        if (method, at) not in [(m, u) for m, u, _ in shown]:
            shown.append((method, at, f"{label(settings, method)} @{at}"))
    return shown


def draw(block: SubFigure, questions: pd.DataFrame, settings: dict) -> None:
    """Four panels of one model (thought × unit)."""
    panels = list(block.subplots(2, 2, sharex=True).flat)
    shown = policies(settings)
    for x, (method, update, name) in enumerate(shown):
        rows = results.evaluated(questions, settings, method, update, settings["main_benchmarks"])
        tokens = results.response_tokens(rows)
        for index, thought in enumerate(THOUGHTS):
            count = results.per_answer(rows, thought)
            for axes, values in ((panels[index], count), (panels[index + 2], 1000 * count / tokens)):
                plotting.mean_point(axes, x, values, style(settings, method), settings["confidence"], name)
    titles = [f"{thought.capitalize()} per {unit}" for unit in ("answer", "1,000 tokens") for thought in THOUGHTS]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.set_xticks(range(len(shown)), [name.replace(" @", "\n@") for *_, name in shown])
        axes.set_xlim(-0.5, len(shown) - 0.4)
        top = max(axes.get_ylim()[1], 1e-3)
        axes.set_ylim(-0.03 * top, 1.05 * top)
        axes.grid(axis="x", visible=False)


def main() -> None:
    """Draw thoughts of every policy."""
    job = read_job(__doc__, ["questions"], FIGURE)
    settings, main_benchmarks = job.settings, job.settings["main_benchmarks"]
    first = job.tables["questions"][settings["models"][0]]
    answers = int(results.evaluated(first, settings, BASE, 0, main_benchmarks)["n"].sum())
    pooled = f"answers to {', '.join(main_benchmarks)} pooled, n = {answers:,} per policy"
    plotting.draw_models(job, draw, f"{plotting.seeds_text(settings)}; {pooled}", height_in=3.4)


if __name__ == "__main__":
    run_main(main)
