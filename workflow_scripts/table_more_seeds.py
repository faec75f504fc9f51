"""Table: one claim with seeds added until its interval has the stated width (Stein's two stages; docs/claims.md)."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.claims import Evidence
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.more_seeds import row

NOTE = (
    "Stein's two stages: the spread of the first seeds alone decides how many more there are and gives, with its "
    "degrees of freedom, the interval of all. The claim's registered verdict, of the first seeds, is in `table_claims`."
)
TOO_FEW = "The stated width needs {needed} seeds, and `more_seeds.most_seeds` allows {seeds}: a valid, wider interval."


def main() -> None:
    """Write the table, the value of every seed below it."""
    job = read_job(__doc__, ["questions", "scores", "curves"], TABLE)
    cells, values = row(Evidence(settings=job.settings, ood={}, gradients={}, **job.tables), job.settings["chosen"])
    each = ", ".join(f"{seed}: {value:.3f}" for seed, value in zip(job.settings["seeds"], values, strict=True))
    notes = [NOTE, f"By seed (a ratio's logarithm): {each}."]
    notes += [TOO_FEW.format(**cells)] if cells["needed"] > cells["seeds"] else []
    tables.write(job, pd.DataFrame([cells]), notes)


if __name__ == "__main__":
    run_main(main)
