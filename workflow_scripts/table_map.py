"""Table: DSRL - GRPO in every organism of the map, for each length of the warm-up."""

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.regimes import SCALARS, cells

NOTE = "Shares of careful answers in the corpus; differences paired by seed, with the t interval over seeds. {scalars}."


def main() -> None:
    """Write the map as CSV and Markdown."""
    job = read_job(__doc__, ["questions", "curves"], TABLE)
    table = cells(job.tables["questions"], job.tables["curves"], job.settings)
    form = table[["under_prompt", "alone", "S", "scalar"]].copy()
    form["DSRL - GRPO"] = table["difference"].map(tables.number)
    form["interval"] = [tables.bracket(*pair) for pair in table[["low", "high"]].to_numpy()]
    for name in ("grpo", "dsrl"):
        form[name.upper()] = table[name].map(tables.number)
    form["seeds"] = table["seeds"]
    scalars = "; ".join(f"{name}: {meaning}" for name, meaning in SCALARS.items())
    tables.write(job, table, [NOTE.format(scalars=scalars)], form)


if __name__ == "__main__":
    run_main(main)
