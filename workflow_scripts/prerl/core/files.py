"""Reading and writing the pipeline's files: one clear error where a parquet is damaged or the disk is full."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from prerl.core.errors import UserError
from prerl.core.provenance import KEY, record_name

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota used up, above the limit on file sizes


class FileError(UserError):
    """A file that cannot be read or written; the message names it and the remedy."""


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file, or some of its columns. Raises FileError if it is missing, damaged or lacks one of them."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise FileError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): it is missing, damaged or of another kind; delete "
            "it and run the same command again, which recreates it"
        ) from None


def read_problems(path: Path) -> pa.Table:
    """A problem file (columns id, problem, answer, level, source). Raises FileError if it cannot be used."""
    table = read_table(path)
    missing = {"id", "problem", "answer"} - set(table.column_names)
    if missing or not len(table):
        fault = f"lacks the columns {sorted(missing)}" if missing else "holds no problem"
        raise FileError(f"{path} {fault}: delete it and run the same command again, which prepares it again")
    return table


def json_lines(path: Path, remedy: str) -> Iterator[tuple[str, Any]]:
    """(place for messages, value) of each line of a file of JSON lines. Raises FileError with `remedy` on any other."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except ValueError as error:  # UnicodeDecodeError too
            raise FileError(f"{where}: not JSON ({error}); {remedy}") from error
        yield where, value


def delete(path: Path) -> None:
    """Delete a file or folder that nothing reads."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def temporary_name(path: Path) -> Path:
    """A sibling of `path` to write first and rename; leftovers of killed writers of `path` are deleted."""
    for leftover in path.parent.glob(f".{escape(path.name)}.tmp*"):
        delete(leftover)
    return path.with_name(f".{path.name}.tmp{os.getpid()}")


@contextmanager
def writing(path: Path, needed_bytes: int) -> Iterator[Path]:
    """A temporary file or folder to write and rename to `path`; deleted if that fails.

    Raises FileError if the disk has no room for about `needed_bytes`; `path` is then unchanged.
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
            "what was there is kept: make room and run the same command again"
        ) from None
    finally:
        if temporary.exists():
            delete(temporary)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Atomic and synced: temporary name, fsync, rename; names the job's record. Raises FileError on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if job := record_name():
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: job})
    with writing(path, table.nbytes) as temporary:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


class FolderInUseError(UserError):
    """Another process holds the folder; the message names it and the remedy."""


def lock_folder(folder: Path) -> TextIO:
    """Lock `folder` for this process until the returned file is closed or the process ends, by `kill -9` too.

    A POSIX record lock on `folder`/lock: the kernel releases it, forked helpers do not inherit it, Linux hands it on to
    an NFS server. Raises FolderInUseError at once if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows both
        file.seek(0)
        holder = file.read()
        file.close()
        raise FolderInUseError(
            f"{folder} is in use by {holder}: wait for that job to end, or end it there by `kill`; then start this one "
            "again: it resumes where that one stopped"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def remove_folder(folder: Path) -> None:
    """Remove `folder` from its place by one rename, so that a kill leaves it whole or gone, then delete it."""
    gone = temporary_name(folder)
    folder.rename(gone)
    delete(gone)


def write_json(path: Path, value: object) -> None:
    """Atomic and synced: temporary name, fsync, rename. Raises FileError on a full disk."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    with writing(path, len(text)) as temporary:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
