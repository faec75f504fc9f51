"""Table: accuracy of the base and of every method on every benchmark, both graders, difference to GRPO."""

import pandas as pd

from prerl import results, tables
from prerl.contrasts import REFERENCE
from prerl.results import BASE


def grader_cells(rows: pd.DataFrame) -> dict:
    """math-verify accuracy, the least share of answers on which the graders differ, and unscorable answers (all %).

    Counts per question show |right by one − right by the other|; opposite disagreements within a question cancel.
    """
    differ = (rows["correct"] - rows["correct_math_verify"]).abs()
    return {
        "math_verify": 100.0 * results.accuracy(rows, "math_verify").mean(),
        "graders_differ_at_least": 100.0 * differ.sum() / rows["n"].sum(),
        "unscorable": 100.0 * rows["unscorable"].sum() / rows["n"].sum(),
    }


def build(questions: dict[str, pd.DataFrame], contrasts: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """One row per model, method (at the end of its run) and benchmark."""
    table = []
    for model in settings["models"]:
        for method in (BASE, *settings["methods"]):
            update = results.end_update(settings, method)
            for benchmark, names in tables.benchmark_sets(settings, with_ood=True).items():
                rows = results.evaluated(questions[model], settings, method, update, names)
                cells = {"model": model, "method": results.label(settings, method), "update": update}
                cells |= {"benchmark": benchmark} | tables.accuracy_cells(rows, settings) | grader_cells(rows)
                if method != REFERENCE and REFERENCE in settings["methods"]:
                    cells |= tables.difference_cells(contrasts[model], method, REFERENCE, benchmark)
                table.append(cells | tables.paper_cells(model, method, benchmark))
    return tables.frame(table)


def main() -> None:
    """Write the main table."""
    arguments = results.parse_arguments(__doc__, ["questions", "contrasts"], ["csv", "md"])
    settings, models = arguments.settings, arguments.settings["models"]
    questions = results.read_models(arguments.questions, models)
    table = build(questions, results.read_models(arguments.contrasts, models), settings)
    tables.write(table, arguments.csv, arguments.md, reading=tables.reading_form(table, settings, (REFERENCE,)))


if __name__ == "__main__":
    main()
