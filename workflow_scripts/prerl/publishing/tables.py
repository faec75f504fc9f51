"""Cells of the accuracy tables; writing a table as CSV (full precision) and as Markdown (rounded for reading)."""

import math
from collections.abc import Sequence

import pandas as pd

from prerl.core.constants import MEAN
from prerl.core.power import visible
from prerl.core.statistics import t_interval
from prerl.evaluation import results
from prerl.evaluation.contrasts import by_question, question_bootstrap
from prerl.publishing import paper, provenance
from prerl.publishing.inputs import Job
from prerl.publishing.labels import label

PROVENANCE = "Provenance: "
"""How the line of a Markdown file begins that says where its numbers come from."""


def _graded(value: float | None) -> dict:
    return {"paper": "", "paper_grade": ""} if value is None else {"paper": value, "paper_grade": paper.GRADE}


def _of_model(values: dict[str, dict], model: str) -> dict:
    return values.get(model.lower().replace("_", "-"), {})


def paper_cells(model: str, method: str, benchmark: str) -> dict:
    """The paper's mean and its grade if model and quantity are the paper's, else empty cells."""
    return _graded(_of_model(paper.MEANS, model).get(method) if benchmark == MEAN else None)


def paper_ood_cells(model: str, method: str, benchmark: str) -> dict:
    """The paper's out-of-distribution gain of DSRL and its grade, or empty cells."""
    return _graded(_of_model(paper.OOD_GAINS, model).get(benchmark) if method == "dsrl" else None)


def benchmark_sets(settings: dict, with_ood: bool) -> dict[str, list[str]]:
    """Rows of an accuracy table: the mean (all main benchmarks), each main benchmark, each out-of-distribution one."""
    names = settings["main_benchmarks"] + (settings["ood_benchmarks"] if with_ood else [])
    return {MEAN: settings["main_benchmarks"]} | {name: [name] for name in names}


def _interval_cells(prefix: str, low: float, high: float) -> dict:
    return {f"{prefix}_low": float(low), f"{prefix}_high": float(high)}


def accuracy_cells(rows: pd.DataFrame, settings: dict) -> dict:
    """Accuracy in % with its t interval over seeds and its bootstrap over questions (values averaged over seeds)."""
    value, *seed_bounds = t_interval((100.0 * results.accuracy(rows)).to_numpy(), settings["confidence"])
    questions = by_question(rows)
    _, *question_bounds = question_bootstrap(questions, settings["bootstrap"])
    counts = {"questions": len(questions), "answers": int(rows["n"].sum()), "seeds": rows["seed"].nunique()}
    return counts | {"accuracy": value} | _interval_cells("t", *seed_bounds) | _interval_cells("boot", *question_bounds)


def difference_cells(contrasts: pd.DataFrame, settings: dict, method: str, reference: str, benchmark: str) -> dict:
    """Difference in percentage points under `vs_{reference}`, from the contrasts table: t over seeds, bootstrap, and
    the smallest one that the seeds see with 80 % power."""
    row, prefix = results.contrast(contrasts, method, reference, benchmark), f"vs_{reference}"
    t_bounds = _interval_cells(f"{prefix}_t", row["t_low"], row["t_high"])
    smallest = visible(row["t_low"], row["t_high"], row["seeds"], settings["confidence"])
    boot_bounds = _interval_cells(f"{prefix}_boot", row["boot_low"], row["boot_high"])
    return {prefix: row["difference_pp"]} | t_bounds | boot_bounds | {f"{prefix}_smallest_effect": smallest}


def frame(rows: list[dict]) -> pd.DataFrame:
    """Rows as a table; a column that a row lacks is empty there (NaN stays NaN: measured, but unknown)."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame([{name: row.get(name, "") for name in columns} for row in rows], dtype=object)


def reading_form(table: pd.DataFrame, settings: dict, references: Sequence[str]) -> pd.DataFrame:
    """An accuracy table with intervals in brackets and two decimals, for Markdown; `references` of its differences."""

    def brackets(prefix: str) -> list[str]:
        return [bracket(*pair) for pair in table[[f"{prefix}_low", f"{prefix}_high"]].to_numpy()]

    form = table[["model", "method", "benchmark"]].copy()
    form[f"avg@{settings['samples_per_question']} (%)"] = table["accuracy"].map(number)
    form["t, seeds"], form["bootstrap, questions"] = brackets("t"), brackets("boot")
    if "math_verify" in table:
        form["math-verify (%)"] = table["math_verify"].map(number)
        form["t, seeds (math-verify)"] = brackets("math_verify_t")
        form["graders differ (% of answers)"] = table["graders_differ"].map(number)
        form["unscorable (% of answers)"] = table["unscorable"].map(number)
    if "reward" in table:
        form["mean reward"], form["t, seeds (reward)"] = table["reward"].map(number), brackets("reward_t")
    if "tokens" in table:
        form["tokens per answer"] = table["tokens"].map(number)
    for reference in references:
        if f"vs_{reference}" in table:
            name = label(settings, reference)
            form[f"vs {name} (pp)"] = table[f"vs_{reference}"].map(number)
            form[f"paired t, seeds (vs {name})"] = brackets(f"vs_{reference}_t")
            form[f"paired bootstrap, questions (vs {name})"] = brackets(f"vs_{reference}_boot")
            form[f"seen with 80 % power (vs {name}, pp)"] = table[f"vs_{reference}_smallest_effect"].map(number)
    form["questions"], form["answers"], form["seeds"] = table["questions"], table["answers"], table["seeds"]
    form["paper (grade)"] = [
        f"{value:.2f} ({grade})" if grade else ""
        for value, grade in zip(table["paper"], table["paper_grade"], strict=True)
    ]
    return form


def bracket(low: float | str, high: float | str) -> str:
    """'[low, high]' with two decimals; empty when the cells are empty (no such contrast)."""
    return "" if low == "" else f"[{_written(low):.2f}, {_written(high):.2f}]"


def number(value: float | str) -> str:
    """Two decimals; empty stays empty."""
    return "" if value == "" else f"{_written(value):.2f}"


def _written(value: float | str) -> float:
    """As the CSV has it: what is read from there and rounded again ends in the same digits."""
    return float(f"{float(value):.10g}")


def digits(value: float) -> str:
    """Two decimals, three below one.

    >>> digits(-3.875), digits(0.3621), digits(2.6250000000004)
    ('-3.88', '0.362', '2.62')
    """
    value = _written(value)
    return "nan" if math.isnan(value) else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _csv_cell(value: object) -> str:
    """Text of a cell: NaN stays visible as `nan`, floats keep 10 significant digits, missing text is empty."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.10g}"
    return str(value)


def _markdown_cell(value: object) -> str:
    return digits(value) if isinstance(value, float) else str(value).replace("|", "\\|")


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table; numeric columns are right-aligned."""
    text = table.map(_markdown_cell)
    numeric = [all(isinstance(v, (int, float)) or v == "" for v in table[column]) for column in table.columns]
    lines = ["| " + " | ".join(table.columns) + " |"]
    lines.append("|" + "|".join("---:" if right else "---" for right in numeric) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in text.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def untrained_notes(curves: dict[str, pd.DataFrame], settings: dict) -> list[str]:
    """A line for each method that trained on no row in a seed, so that its accuracy is the base model's."""
    return [
        f"Nothing was trained by {label(settings, method)} from {model}, seeds {str(seeds)[1:-1]}: no update had a row "
        "in its loss, since the answers to each problem were all right or all wrong."
        for model in settings["models"]
        for method in settings["methods"]
        if (seeds := results.untrained_seeds(curves[model], settings, method))
    ]


def write(job: Job, table: pd.DataFrame, notes: Sequence[str] = (), reading: pd.DataFrame | None = None) -> None:
    """Write `table` as CSV and, or its `reading` form, as Markdown; below that `notes`, provenance, `reading`."""
    if origin := provenance.line(job.provenance):
        notes = [*notes, f"{PROVENANCE}{origin}."]
    notes = [*notes, *filter(None, [job.settings["reading"]])]
    table = table.astype(object)
    table.map(_csv_cell).to_csv(job.outputs["csv"], index=False)
    body = markdown(table if reading is None else reading)
    job.outputs["md"].write_text(body + "".join(f"\n{note}\n" for note in notes), encoding="utf-8")
