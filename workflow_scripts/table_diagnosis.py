"""Table: what a base model brings to training: groups to learn from, its style with and without the prompt."""

import pandas as pd

from prerl.core.errors import run_main
from prerl.core.statistics import cluster_bootstrap_mean
from prerl.publishing import tables
from prerl.publishing.inputs import TABLE, read_job

NOTE = (
    "GRPO learns from mixed groups alone. Thinking: an answer with a reflection or transition by the SEAL rule. A "
    "style that helps, is rare under the prompt and common in P(y), is what a warm-up in P(y) could bring; where it is "
    "as common under the prompt, or rare in P(y) too, there is nothing to bring. Brackets: bootstrap over questions; "
    "in P(y), where there is no question, over answers."
)


def diagnose(rows: pd.DataFrame, settings: dict) -> dict[str, str]:
    """Quantity -> its value with interval, as text, of one base model."""
    rows = rows.assign(thinking=(rows["reflections"] + rows["transitions"] > 0).astype(float))
    asked, free = (rows[rows["space"] == space] for space in ("posttrain", "pretrain"))
    share = asked.groupby(["seed", "question"])["right"].mean()
    groups = {"all right": share == 1, "mixed": (share > 0) & (share < 1), "all wrong": share == 0}

    def percent(values: pd.Series, clusters: list[str]) -> str:
        mean, low, high = cluster_bootstrap_mean(100 * values.to_numpy(float), clusters, **settings["bootstrap"])
        return f"{mean:.1f} [{low:.1f}, {high:.1f}]"

    questions = (asked["seed"].astype(str) + "/" + asked["question"]).tolist()
    cells = {"right, %": percent(asked["right"], questions)}
    for name, group in groups.items():
        cells[f"groups {name}, %"] = percent(group, [f"{seed}/{question}" for seed, question in group.index])
    cells["thinking under the prompt, %"] = percent(asked["thinking"], questions)
    cells["thinking in P(y), %"] = percent(free["thinking"], [str(place) for place in range(len(free))])
    for name, part in (("under the prompt", asked), ("in P(y)", free)):
        cells[f"tokens {name}"] = f"{part['tokens'].mean():.0f}"
        cells[f"truncated {name}, %"] = f"{100 * part['truncated'].mean():.1f}"
    return cells | {"answers": f"{len(asked):,} + {len(free):,}"}


def main() -> None:
    """Write the diagnosis of every base model as CSV and Markdown."""
    job = read_job(__doc__, ["diagnosis"], TABLE)
    columns = {model: diagnose(rows, job.settings) for model, rows in job.tables["diagnosis"].items()}
    table = pd.DataFrame(columns).rename_axis("of the base model").reset_index()
    tables.write(job, table, [NOTE])


if __name__ == "__main__":
    run_main(main)
