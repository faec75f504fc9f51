"""Reading and writing the pipeline's parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_problems(path: Path) -> pa.Table:
    """A problem file (columns id, problem, answer, level, source). Raises ValueError where a column is missing."""
    table = pq.read_table(path)
    missing = {"id", "problem", "answer"} - set(table.column_names)
    if missing:
        raise ValueError(f"{path} lacks the columns {sorted(missing)}: make it again with the prepare rules")
    return table


def write_parquet(path: Path, table: pa.Table) -> None:
    """Atomic: temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)
