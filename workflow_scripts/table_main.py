"""Table: accuracy of the base and every method on every benchmark, both graders, difference to GRPO."""

import pandas as pd

from prerl.core.constants import BASE
from prerl.core.errors import run_main
from prerl.core.statistics import t_interval
from prerl.evaluation import results
from prerl.evaluation.contrasts import REFERENCE
from prerl.publishing import tables
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.labels import label


def grader_cells(rows: pd.DataFrame, settings: dict) -> dict:
    """math-verify accuracy in % with its t interval over seeds; in % of all `answers`, counted exactly: those on which
    the graders differ (one says right, the other does not) and those that math-verify cannot score. The mean training
    reward, where it is no grader's verdict."""
    value, low, high = t_interval((100.0 * results.accuracy(rows, "math_verify")).to_numpy(), settings["confidence"])
    cells = {
        "math_verify": value,
        "math_verify_t_low": low,
        "math_verify_t_high": high,
        "graders_differ": 100.0 * rows["differ"].sum() / rows["n"].sum(),
        "unscorable": 100.0 * rows["unscorable"].sum() / rows["n"].sum(),
    }
    if "reward" in rows:  # another one than Hendrycks equality
        value, low, high = t_interval(results.accuracy(rows, "reward").to_numpy(), settings["confidence"])
        cells |= {"reward": value, "reward_t_low": low, "reward_t_high": high}
    return cells


def build(questions: dict[str, pd.DataFrame], contrasts: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """One row per model, policy (a method at the end of its run, or at an earlier evaluated update) and benchmark."""
    table = []
    for model in settings["models"]:
        answers = questions[model]
        for method in (BASE, *settings["methods"]):
            end = results.end_update(settings, method)
            for update in sorted({end, *answers.loc[answers["method"] == method, "update"]}):
                name = label(settings, method) + ("" if update == end else f" @{update}")
                for benchmark, names in tables.benchmark_sets(settings, with_ood=True).items():
                    rows = results.evaluated(answers, settings, method, update, names)
                    cells = {"model": model, "method": name, "update": update, "benchmark": benchmark}
                    cells |= tables.accuracy_cells(rows, settings) | grader_cells(rows, settings)
                    cells["tokens"] = float(results.response_tokens(rows).mean())
                    if update == end:
                        if method != REFERENCE and REFERENCE in settings["methods"]:
                            cells |= tables.difference_cells(contrasts[model], settings, method, REFERENCE, benchmark)
                        cells |= tables.paper_cells(model, method, benchmark)
                    table.append(cells)
    return tables.frame(table)


def main() -> None:
    """Write the main table."""
    job = read_job(__doc__, ["questions", "contrasts", "curves"], TABLE)
    table = build(job.tables["questions"], job.tables["contrasts"], job.settings)
    notes = tables.untrained_notes(job.tables["curves"], job.settings)
    tables.write(job, table, notes, tables.reading_form(table, job.settings, (REFERENCE,)))


if __name__ == "__main__":
    run_main(main)
