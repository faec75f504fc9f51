"""Table: does the space of the warm-up matter? GRPO, NSR-RL warm-up → GRPO, and DSRL (NSR-PreRL warm-up → GRPO)."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import tables
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.labels import label

METHODS = ("grpo", "nsr_rl_warmup", "dsrl")
REFERENCES = ("grpo", "nsr_rl_warmup")


def build(questions: dict[str, pd.DataFrame], contrasts: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """One row per model, method (at the end of its run) and main benchmark, with paired differences to REFERENCES."""
    methods = [method for method in METHODS if method in settings["methods"]]
    if not methods:
        raise ValueError(f"none of {METHODS} is run at this scale: add one to the scale's methods in config.yaml")
    table = []
    for model in settings["models"]:
        for benchmark, names in tables.benchmark_sets(settings, with_ood=False).items():
            for method in methods:
                update = results.end_update(settings, method)
                rows = results.evaluated(questions[model], settings, method, update, names)
                cells = {"model": model, "method": label(settings, method), "benchmark": benchmark}
                cells |= tables.accuracy_cells(rows, settings)
                for reference in REFERENCES[: METHODS.index(method)]:
                    if reference in methods:
                        cells |= tables.difference_cells(contrasts[model], settings, method, reference, benchmark)
                table.append(cells | tables.paper_cells(model, method, benchmark))
    return tables.frame(table)


def main() -> None:
    """Write the table of the warm-up's space."""
    job = read_job(__doc__, ["questions", "contrasts", "curves"], TABLE)
    table = build(job.tables["questions"], job.tables["contrasts"], job.settings)
    notes = tables.untrained_notes(job.tables["curves"], job.settings)
    tables.write(job, table, notes, tables.reading_form(table, job.settings, REFERENCES))


if __name__ == "__main__":
    run_main(main)
