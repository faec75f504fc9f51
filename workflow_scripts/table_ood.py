"""Table: accuracy on the out-of-distribution benchmarks, difference to the base and to GRPO, the paper's gains."""

import pandas as pd

from prerl.core.constants import BASE, MEAN
from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.evaluation.contrasts import REFERENCE
from prerl.publishing import tables
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.labels import label

REFERENCES = (BASE, REFERENCE)
PAPER_NOTE = (
    "Paper: its gains of DSRL in pp (grade B). It does not state over which method, nor variant, prompts and decoding "
    "of a benchmark, so its numbers stand beside ours and are not compared with them."
)
NO_SETS = "This scale has no out-of-distribution benchmarks: give one `role: ood`, or name tasks under `ood.tasks`."


def build(answers: dict[str, pd.DataFrame], contrasts: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """One row per model, method (at the end of its run) and benchmark; the mean of all if there are several."""
    graders = settings["ood_sets"]
    selections = ({MEAN: list(graders)} if len(graders) > 1 else {}) | {name: [name] for name in graders}
    table = []
    for model in settings["models"]:
        for method in (BASE, *settings["methods"]):
            update = results.end_update(settings, method)
            for benchmark, names in selections.items():
                rows = results.evaluated(answers[model], settings, method, update, names)
                cells = {"model": model, "method": label(settings, method), "update": update}
                cells |= {"benchmark": benchmark, "grader": graders.get(benchmark, "")}
                cells |= tables.accuracy_cells(rows, settings)
                for reference in REFERENCES:
                    if reference != method and reference in (BASE, *settings["methods"]):
                        cells |= tables.difference_cells(contrasts[model], settings, method, reference, benchmark)
                table.append(cells | tables.paper_ood_cells(model, method, benchmark))
    return tables.frame(table)


def reading_form(table: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The table for Markdown, each benchmark with its grader."""
    form = tables.reading_form(table, settings, REFERENCES)
    form.insert(3, "grader", table["grader"])
    names = {f"avg@{settings['samples_per_question']} (%)": "accuracy (%)", "paper (grade)": "paper's gain (grade)"}
    return form.rename(columns=names)


def main() -> None:
    """Write the out-of-distribution table."""
    job = read_job(__doc__, ["ood", "contrasts"], TABLE)
    settings = job.settings
    notes = [
        f"Not run: {name}, which runs code that the model writes: `ood.run_generated_code: true` (docs/extending.md)."
        for name in settings["ood_left_out"]
    ]
    if not settings["ood_sets"]:
        tables.write(job, pd.DataFrame({"model": settings["models"], "note": NO_SETS}), notes)
        return
    table = build(job.tables["ood"], job.tables["contrasts"], settings)
    tables.write(job, table, [PAPER_NOTE, *notes], reading_form(table, settings))


if __name__ == "__main__":
    run_main(main)
