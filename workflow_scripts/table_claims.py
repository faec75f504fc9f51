"""Table: every claim of the paper as one scalar with its interval over seeds and its verdict (docs/claims.md)."""

from prerl import results, tables
from prerl.claims import Evidence, claims_table


def main() -> None:
    """Write the claims table as CSV (full precision) and Markdown (rounded)."""
    inputs = ["questions", "scores", "curves", "alignment"]
    arguments = results.parse_arguments(__doc__, inputs, ["csv", "md"])
    settings = arguments.settings
    models = settings["models"]
    evidence = Evidence(
        settings=settings,
        questions=results.read_models(arguments.questions, models),
        scores=results.read_models(arguments.scores, models),
        curves=results.read_models(arguments.curves, models),
        alignment=results.read_alignment(arguments.alignment, settings),
    )
    table, reasons = claims_table(evidence)
    notes = [f"Not tested: {name} ({reason})." for name, reason in reasons.items()]
    tables.write(table, arguments.csv, arguments.md, notes)


if __name__ == "__main__":
    main()
