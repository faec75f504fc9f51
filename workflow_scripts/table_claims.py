"""Table: every claim of the paper as one scalar with its interval over seeds and its verdict (docs/claims.md)."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.claims import Evidence
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.tables import bracket, number
from prerl.publishing.verdicts import BESIDE, COLUMNS, ClaimRow, claim_rows

NOTE = (
    "Question bootstrap: difference of accuracies in pp, questions resampled for both sides with the trained "
    "policies fixed; it never decides. Empty if the claim is not a difference of accuracies on benchmark questions, or "
    "is not tested."
)
BESIDE_NOTE = (
    "Beside the verdict, deciding nothing, in the unit of `ours` (a factor for a ratio): the smallest effect that "
    "these seeds see with 80 % power if their spread is the true one; the seeds that would settle a `cannot tell` with "
    "80 % power if the effect is as seen; intervals over other seeds and questions, by the hierarchical bootstrap "
    "and by the crossed t, which holds its 95 % where the bootstrap does not; the median of the seeds with its order "
    "statistics (five seeds: 93.75 %, eight: 92.97 %, whatever the distribution). docs/claims.md has the simulations."
)


def reading_form(table: pd.DataFrame, rows: list[ClaimRow]) -> pd.DataFrame:
    """The table with the question bootstrap beside the interval over seeds, and what decides nothing in words."""
    intervals = [row.question_bootstrap for row in rows]
    form = table[COLUMNS].copy()
    bounds = ["" if x is None else bracket(x.low, x.high) for x in intervals]
    form.insert(COLUMNS.index("ci_high") + 1, "question bootstrap", bounds)
    form["sees with 80 % power"], form["seeds to settle"] = table["smallest_effect"], table["seeds_to_settle"]
    for name in ("hierarchical", "crossed"):
        bounds = [bracket(*pair) for pair in table[[f"{name}_low", f"{name}_high"]].to_numpy()]
        form["hierarchical bootstrap" if name == "hierarchical" else "crossed t"] = bounds
    median = table[["median", "median_low", "median_high"]].to_numpy()
    form["median"] = [f"{number(value)} {bracket(low, high)}".strip() for value, low, high in median]
    return form


def main() -> None:
    """Write the claims table as CSV (full precision) and Markdown (rounded, with the question bootstrap)."""
    job = read_job(__doc__, ["questions", "scores", "curves", "ood", "gradients"], TABLE)
    rows = claim_rows(Evidence(settings=job.settings, **job.tables))
    table = pd.DataFrame([row.row for row in rows], columns=[*COLUMNS, *BESIDE])
    notes = [NOTE, BESIDE_NOTE] + [f"Not tested: {row.row['claim']} ({row.reason})." for row in rows if row.reason]
    tables.write(job, table, notes, reading_form(table, rows))


if __name__ == "__main__":
    run_main(main)
