"""Figure: reflection and transition thoughts per answer and per 1,000 tokens, before and after training."""

import pandas as pd
from matplotlib.figure import SubFigure

from prerl.core.constants import BASE
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.evaluation.results import NotMeasured
from prerl.publishing import plotting

THOUGHTS = ("reflections", "transitions")


def policies(settings: dict) -> list[tuple[str, int, str]]:
    """(method, update, label) of the policies shown; methods that are not configured are left out."""
    early = settings["reference_updates"]["nsr"]
    shown = [(BASE, 0, "Base")]
    for method, update in (("nsr_prerl", early), ("grpo", early), ("grpo", None)):
        try:
            at = results.end_update(settings, method) if update is None else update
        except NotMeasured:
            continue
        if (method, at) not in [(m, u) for m, u, _ in shown]:
            shown.append((method, at, f"{results.label(settings, method)} @{at}"))
    return shown


def draw(block: SubFigure, questions: pd.DataFrame, settings: dict) -> None:
    """Four panels of one model (thought × unit)."""
    panels = block.subplots(1, 4)
    shown = policies(settings)
    for x, (method, update, _) in enumerate(shown):
        rows = results.evaluated(questions, settings, method, update, settings["main_benchmarks"])
        tokens = results.response_tokens(rows)
        for index, thought in enumerate(THOUGHTS):
            count = results.per_answer(rows, thought)
            for axes, values in ((panels[index], count), (panels[index + 2], 1000 * count / tokens)):
                plotting.mean_point(axes, x, values, plotting.STYLES[method], settings["confidence"])
    titles = [f"{thought.capitalize()}\nper {unit}" for unit in ("answer", "1,000 tokens") for thought in THOUGHTS]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.set_xticks(
            range(len(shown)), [name for *_, name in shown], rotation=60, ha="right", rotation_mode="anchor"
        )
        axes.set_xlim(-0.5, len(shown) - 0.4)
        top = max(axes.get_ylim()[1], 1e-3)
        axes.set_ylim(-0.03 * top, 1.05 * top)
        axes.grid(axis="x", visible=False)
    panels[0].set_ylabel("Thoughts")


def main() -> None:
    """Draw one block per model."""
    arguments = results.parse_arguments(__doc__, ["questions"], ["pdf", "png"])
    settings = arguments.settings
    models, main_benchmarks = settings["models"], settings["main_benchmarks"]
    questions = results.read_models(arguments.questions, models)
    answers = int(results.evaluated(questions[models[0]], settings, BASE, 0, main_benchmarks)["n"].sum())
    footer = (
        f"{settings['scale']}; {plotting.seeds_text(settings)}; answers to {', '.join(main_benchmarks)} pooled, "
        f"n = {answers:,} per policy"
    )
    figure, blocks = plotting.model_figures(models, plotting.TWO_COLUMNS_IN, 2.6, footer)
    for block, model in zip(blocks, models, strict=True):
        draw(block, questions[model], settings)
    plotting.save(figure, arguments.pdf, arguments.png)


if __name__ == "__main__":
    run_main(main)
