"""Writing a table as CSV (full precision) and as Markdown (rounded for reading)."""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def _csv_cell(value: object) -> str:
    """Text of a cell: NaN stays visible as `nan`, floats keep 10 significant digits, missing text is empty."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.10g}"
    return str(value)


def _markdown_cell(value: object) -> str:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return str(value).replace("|", "\\|")


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table; numeric columns are right-aligned."""
    text = table.map(_markdown_cell)
    numeric = [all(isinstance(v, (int, float)) or v == "" for v in table[column]) for column in table.columns]
    lines = ["| " + " | ".join(table.columns) + " |"]
    lines.append("|" + "|".join("---:" if right else "---" for right in numeric) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in text.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def write(table: pd.DataFrame, csv: Path, md: Path, notes: Sequence[str] = ()) -> None:
    """Write `table` to `csv` and `md`; `notes` become lines below the Markdown table."""
    table = table.astype(object)
    table.map(_csv_cell).to_csv(csv, index=False)
    body = markdown(table)
    md.write_text(body + "".join(f"\n{note}\n" for note in notes), encoding="utf-8")
