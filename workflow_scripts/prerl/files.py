"""Reading and writing the pipeline's files: one clear error where a parquet is damaged or the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prerl import UserError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota used up, above the limit on file sizes


class FileError(UserError):
    """A file that cannot be read or written; the message names it and the remedy."""


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file, or some of its columns. Raises FileError where it is missing, damaged or lacks one of them."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise FileError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): it is missing, damaged or of another kind; delete "
            "it and run the same command again, which makes it anew"
        ) from None


def read_problems(path: Path) -> pa.Table:
    """A problem file (columns id, problem, answer, level, source). Raises FileError where it cannot be used."""
    table = read_table(path)
    missing = {"id", "problem", "answer"} - set(table.column_names)
    if missing or not len(table):
        fault = f"lacks the columns {sorted(missing)}" if missing else "holds no problem"
        raise FileError(f"{path} {fault}: delete it and run the same command again, which prepares it anew")
    return table


def delete(path: Path) -> None:
    """Delete a file or a folder that no reader looks for."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def temporary_name(path: Path) -> Path:
    """A sibling of `path` to write before it takes that name; what killed writers of `path` left is removed."""
    for leftover in path.parent.glob(f".{escape(path.name)}.tmp*"):
        delete(leftover)
    return path.with_name(f".{path.name}.tmp{os.getpid()}")


@contextmanager
def writing(path: Path, needed_bytes: int) -> Iterator[Path]:
    """A temporary name to write (file or folder) and rename to `path`; nothing of it stays where that fails.

    Raises FileError where the disk has no room for about `needed_bytes`; what stood at `path` is then as it was.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        free = shutil.disk_usage(path.parent).free
        raise FileError(
            f"{path} not written: {os.strerror(error.errno)} (about {needed_bytes:,} bytes needed, {free:,} free): "
            "what stood there is kept: make room and run the same command again"
        ) from None
    finally:
        if temporary.exists():
            delete(temporary)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Atomic and synced: temporary name, fsync, rename. Raises FileError on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, table.nbytes) as temporary:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
