"""Table: every claim of the paper as one scalar with its interval over seeds and its verdict (docs/claims.md)."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.evaluation import results
from prerl.publishing import tables
from prerl.publishing.claims import COLUMNS, ClaimRow, Evidence, claim_rows
from prerl.publishing.tables import bracket

NOTE = (
    "Question bootstrap: difference of accuracies in pp, questions resampled for both sides with the trained "
    "policies fixed; it never decides. Empty where the claim is no difference of accuracies on benchmark questions, or "
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
    inputs = ["questions", "scores", "curves", "ood", "alignment"]
    arguments = results.parse_arguments(__doc__, inputs, ["csv", "md"])
    settings = arguments.settings
    models = settings["models"]
    evidence = Evidence(
        settings=settings,
        questions=results.read_models(arguments.questions, models),
        scores=results.read_models(arguments.scores, models),
        curves=results.read_models(arguments.curves, models),
        ood=results.read_models(arguments.ood, models),
        alignment=results.read_alignment(arguments.alignment, settings),
    )
    rows = claim_rows(evidence)
    table = pd.DataFrame([row.row for row in rows], columns=COLUMNS)
    notes = [NOTE] + [f"Not tested: {row.row['claim']} ({row.reason})." for row in rows if row.reason]
    tables.write(table, arguments.csv, arguments.md, notes, reading_form(table, rows))


if __name__ == "__main__":
    run_main(main)
