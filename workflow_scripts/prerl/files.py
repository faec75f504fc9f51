"""Reading and writing the pipeline's parquet files."""

from __future__ import annotations

import os
from glob import escape
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
    """Atomic and synced: temporary name, fsync, rename; what killed writers of `path` left is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{escape(path.name)}.tmp*"):
        leftover.unlink()
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    with temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
