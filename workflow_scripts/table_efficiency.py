"""Table: updates, tokens, FLOPs and seconds of GRPO and DSRL to half of GRPO's gain in validation accuracy."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import efficiency, tables
from prerl.publishing.claims import Evidence
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.labels import label

NOTE = (
    "Ratio: GRPO's cost over DSRL's, mean of the seeds' logarithms with its t interval; above 1 DSRL is cheaper. The "
    "target, and what counts where a run does not reach it: claim `efficiency`, docs/claims.md. FLOPs by formula from "
    "the tokens of each update; seconds depend on the machine and its other load."
)


UNITS = {"flops": "FLOPs", "seconds": "seconds (sampling, grading, training)"}


def reading_form(table: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The table with names for readers, the interval in brackets."""
    form = table[["model"]].assign(cost=table["cost"].replace(UNITS))
    for method in efficiency.METHODS:
        name = label(settings, method)
        form[name] = [f"{float(f'{value:.4g}'):,g}" for value in table[method]]
        form[f"{name}: seeds that do not reach it"] = table[f"{method}_not_reached"]
    form["GRPO / DSRL"] = table["ratio"].map(tables.number)
    form["t, seeds"] = [tables.bracket(*pair) for pair in table[["ratio_low", "ratio_high"]].to_numpy()]
    return form.assign(seeds=table["seeds"])


def main() -> None:
    """Write the table; a scale without both methods gets a line that says so."""
    job = read_job(__doc__, ["curves"], TABLE)
    settings = job.settings
    missing = [name for name in efficiency.METHODS if name not in settings["methods"]]
    if missing:
        note = f"{', '.join(missing)} not run at this scale"
        tables.write(job, pd.DataFrame({"model": settings["models"], "note": note}))
        return
    evidence = Evidence(settings=settings, questions={}, scores={}, ood={}, gradients={}, **job.tables)
    table = pd.DataFrame(efficiency.rows(evidence))
    tables.write(job, table, [NOTE], reading_form(table, settings))


if __name__ == "__main__":
    run_main(main)
