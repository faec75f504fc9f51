"""Table: each claim as it is and under each control that replaces one of its methods, with the paired change."""

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.controls import effects, evidence_of, interval_text
from prerl.publishing.inputs import TABLE, read_job

NOTE = (
    "As it is, under the control, and the change (control - as it is, paired by seed; of ratios their ratio), each "
    "with its t interval over seeds; units and rule of verdicts as in table_claims (docs/claims.md). Of {count} "
    "intervals about {expected:.1f} would miss a true value by chance. Seen with 80 % power: the smallest change, if "
    "the seeds' spread is the true one."
)


def main() -> None:
    """Write the effects as CSV and Markdown."""
    job = read_job(__doc__, ["questions", "scores", "curves"], TABLE)
    table = effects(evidence_of(job.settings, job.tables))
    form = table[["claim"]].assign(control=[job.settings["controls"][name]["label"] for name in table["control"]])
    for column, title in (("as_is", "as it is"), ("under", "under the control"), ("change", "change")):
        cells = table[[column, f"{column}_low", f"{column}_high"]].to_numpy()
        form[title] = [interval_text(*values) for values in cells]
    form["seen with 80 % power"] = table["smallest_effect"].map(tables.number)
    form["verdict under it"], form["seeds"], form["n"] = table["verdict"], table["seeds"], table["n"]
    notes = [NOTE.format(count=2 * len(table), expected=2 * len(table) * (1 - job.settings["confidence"]))]
    tables.write(job, table, notes, form.sort_values(["claim", "control"], kind="stable"))


if __name__ == "__main__":
    run_main(main)
