"""Table: every claim of the paper as one scalar with its interval over seeds and its verdict (docs/claims.md)."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.claims import COLUMNS, ClaimRow, Evidence, claim_rows
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.tables import bracket

NOTE = (
    "Question bootstrap: difference of accuracies in pp, questions resampled for both sides with the trained "
    "policies fixed; it never decides. Empty if the claim is not a difference of accuracies on benchmark questions, or "
    "is not tested."
)


def reading_form(table: pd.DataFrame, rows: list[ClaimRow]) -> pd.DataFrame:
    """The table with the question bootstrap beside the interval over seeds, for Markdown."""
    intervals = [row.question_bootstrap for row in rows]
    form = table.copy()
    bounds = ["" if x is None else bracket(x.low, x.high) for x in intervals]
    form.insert(COLUMNS.index("ci_high") + 1, "question bootstrap", bounds)
    return form


def main() -> None:
    """Write the claims table as CSV (full precision) and Markdown (rounded, with the question bootstrap)."""
    job = read_job(__doc__, ["questions", "scores", "curves", "ood", "gradients"], TABLE)
    rows = claim_rows(Evidence(settings=job.settings, **job.tables))
    table = pd.DataFrame([row.row for row in rows], columns=COLUMNS)
    notes = [NOTE] + [f"Not tested: {row.row['claim']} ({row.reason})." for row in rows if row.reason]
    tables.write(job, table, notes, reading_form(table, rows))


if __name__ == "__main__":
    run_main(main)
