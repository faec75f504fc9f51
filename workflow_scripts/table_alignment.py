"""Table: cosines and inner products of ∇log P(y) with ∇log P(y|·), and the excess of the own x, by group of weights."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.publishing import tables
from prerl.publishing.alignment import ALL, NAMES, excess, of_first_benchmark, over_questions, per_rollout
from prerl.publishing.claims import ALIGNMENT_EXCESS
from prerl.publishing.inputs import TABLE, read_job
from prerl.publishing.verdicts import verdict

EXCESS = "own x − another problem's x"
HEADERS = {
    "inner_mean": "inner product (mean log-probs)", "negative_percent": "negative (%)",
    "inner_sum": "inner product (summed log-probs)",
}  # fmt: skip
NOTE = (
    "Cosine and inner product (of log-probs averaged over tokens, and summed) of ∇log P(y) with ∇log P(y|·), means "
    "over rollouts; brackets: bootstrap over questions. Excess: paired by rollout (docs/claims.md, alignment_excess)."
)


def build(gradients: dict[str, pd.DataFrame], settings: dict) -> pd.DataFrame:
    """A row per model, benchmark, group of weights and comparison; of parts of the weights only own x and another's."""
    rows = []
    for model, table in gradients.items():
        for benchmark, part in table.groupby("benchmark", sort=False):
            for group in part["group"].unique():
                for name in NAMES if group == ALL else ("own_x", "other_x"):
                    cosine, inner = (per_rollout(part, name, column, group) for column in ("cosine", "inner_mean"))
                    rows.append(
                        _row(model, benchmark, group, NAMES[name], cosine, settings)
                        | {"inner_mean": inner.mean(), "negative_percent": 100 * (inner < 0).mean()}
                        | {"inner_sum": per_rollout(part, name, "inner_sum", group).mean()}
                    )
                rows.append(_row(model, benchmark, group, EXCESS, excess(part, group=group), settings))
    return tables.frame(rows)


def _row(model: str, benchmark: object, group: str, compared: str, cosine: pd.Series, settings: dict) -> dict:
    mean, low, high = over_questions(cosine, settings)
    row = {"model": model, "benchmark": benchmark, "weights": group, "compared with": compared, "rollouts": len(cosine)}
    return row | {"cosine": mean, "low": low, "high": high}


def about_rollouts(model: str, table: pd.DataFrame) -> list[str]:
    """What the base's rollouts on each benchmark are like."""
    return [
        f"{model}, {benchmark}: {len(rows):,} rollouts of {rows['question'].nunique()} questions, "
        f"{100 * rows['right'].mean():.3g} % right, {100 * rows['truncated'].mean():.3g} % truncated, "
        f"{rows['tokens'].mean():.3g} tokens; an answer has {rows['reflections'].mean():.3g} reflections, "
        f"{rows['transitions'].mean():.3g} transitions, {rows['executions'].mean():.3g} executions."
        for benchmark, rows in table.groupby("benchmark", sort=False)
    ]


def main() -> None:
    """Write the alignment table as CSV and Markdown, with the verdict on the excess."""
    job = read_job(__doc__, ["alignment", "gradients"], TABLE)
    settings = job.settings
    table = build(job.tables["gradients"], settings)
    notes = [NOTE]
    for model, rows in job.tables["alignment"].items():
        notes += about_rollouts(model, rows)
    if settings["verdicts"]:
        whole = table[(table["compared with"] == EXCESS) & (table["weights"] == ALL)]
        whole = of_first_benchmark(whole, settings)  # docs/claims.md: further benchmarks decide nothing
        notes += [
            f"alignment_excess, {row['model']}, {row['benchmark']}: "
            f"{verdict(row['low'], row['high'], ALIGNMENT_EXCESS.null, ALIGNMENT_EXCESS.side)}."
            for _, row in whole.iterrows()
        ]
    form = table.drop(columns=["low", "high"])
    place = list(form.columns).index("cosine") + 1
    form.insert(place, "bootstrap, questions", [tables.bracket(*pair) for pair in table[["low", "high"]].to_numpy()])
    tables.write(job, table, notes, form.rename(columns=HEADERS))


if __name__ == "__main__":
    run_main(main)
