"""Table: updates, tokens, FLOPs and seconds of GRPO and DSRL to half of GRPO's gain in validation accuracy."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import efficiency, tables
from prerl.publishing.claims import Evidence
from prerl.publishing.inputs import TABLE, read_job

NOTE = (
    "Ratio: GRPO's cost over DSRL's, mean of the seeds' logarithms with its t interval; above 1 DSRL is cheaper. The "
    "target, and what counts where a run does not reach it: claim `efficiency`, docs/claims.md. FLOPs by formula from "
    "the tokens of each update; seconds depend on the machine and its other load."
)


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
    reading = table.assign(**{name: table[name].map("{:.4g}".format) for name in efficiency.METHODS})
    tables.write(job, table, [NOTE], reading)


if __name__ == "__main__":
    run_main(main)
