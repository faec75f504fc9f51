"""Fetching one file that its sha256 pins: from a mirror or its public address, resumable, whole or not at all.

The sha256 alone says what is right, so a partial file may be continued from another server than the one it began with.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests
import urllib3

from prerl import UserError
from prerl.checkpoints import sha256_of
from prerl.files import writing

PIECE_BYTES = 1 << 16


class DownloadError(UserError):
    """A file that cannot be had; the message names the address, what is wrong and the remedy."""


class _Fault(Exception):
    """What another attempt may cure: no connection, a broken or silent one, 5xx, a wrong range."""


@dataclass(frozen=True)
class Source:
    """Where a file lies: `mirror` (a folder, an http(s) address or None) holds it as `name`, the public as `url`."""

    url: str
    name: str
    mirror: str | None


@dataclass(frozen=True)
class Patience:
    """timeout_s: to connect, and between two pieces; backoff_s: before the second attempt, then doubled."""

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0


def download(source: Source, sha256: str, target: Path, partial: Path, patience: Patience) -> None:
    """Write `target`, by rename, once its sha256 is right. The public address follows where the mirror lacks the file.

    Args:
        partial: keeps what arrived when the job dies; the next call goes on from there. Removed at the end.

    Raises DownloadError, or FileError on a full disk; `target` is then as it was.
    """
    if not _from_mirror(source, sha256, partial, patience):
        remedy = f"rerun when it answers, or set data.mirror to a folder or address that holds {source.name}"
        if not _fetch(source.url, sha256, partial, patience, remedy):
            raise DownloadError(
                f"{source.url}: the server has no such file (404); correct the url in the configuration, or set "
                f"data.mirror to a folder or address that holds {source.name}"
            )
    _publish(partial, target)


def _from_mirror(source: Source, sha256: str, partial: Path, patience: Patience) -> bool:
    """False where there is no mirror, or it lacks the file."""
    if source.mirror is None:
        return False
    if "://" in source.mirror:
        address = f"{source.mirror.rstrip('/')}/{quote(source.name)}"
        remedy = "rerun when it answers, put a whole copy there, or set data.mirror: null for the public address"
        found = _fetch(address, sha256, partial, patience, remedy)
    else:
        found = _copy(Path(source.mirror), source.name, sha256, partial)
    if not found:
        print(f"the mirror {source.mirror} has no {source.name}: going to the public address", flush=True)
    return found


def _copy(folder: Path, name: str, sha256: str, partial: Path) -> bool:
    """Copy `name` of a mirror folder to `partial`; False where the folder lacks it."""
    if not folder.is_dir():
        raise DownloadError(f"data.mirror: {folder} is no folder (in {Path.cwd()}); correct it or set it to null")
    file = folder / name
    if not file.is_file():
        return False
    print(f"copying {file}", flush=True)
    difference = _difference(file, sha256)
    if difference:
        raise DownloadError(f"{file} has {difference}; put a whole copy there, or set data.mirror: null")
    shutil.copyfile(file, partial)
    return True


def _fetch(url: str, sha256: str, partial: Path, patience: Patience, remedy: str) -> bool:
    """Fetch `url` to `partial` until its sha256 is right; False where the server has no such file.

    Faults that may pass are tried again. A wrong file that was put together from two answers is fetched once again
    whole; one that came in a single answer is an error.
    """
    fault, attempts = "", 0
    while not partial.is_file() or _difference(partial, sha256):
        if attempts == patience.attempts:
            kept = "what arrived is kept" if partial.is_file() else "nothing was kept"
            raise DownloadError(f"{url}: {fault} ({attempts} attempts; {kept}); {remedy}")
        if attempts:
            wait_s = patience.backoff_s * 2 ** (attempts - 1)
            print(f"{fault}; again in {wait_s:g} s", flush=True)
            time.sleep(wait_s)
        attempts += 1
        try:
            status = _receive(url, partial, patience.timeout_s, remedy)
        except _Fault as error:
            fault = str(error)
            continue
        if status == requests.codes.not_found:
            return False
        difference = _difference(partial, sha256)
        if difference:
            partial.unlink()
            fault = f"the server gave {difference}"
            if status != requests.codes.partial_content:
                raise DownloadError(
                    f"{url}: {fault}; nothing was kept; rerun, and if it happens again the address no longer serves "
                    f"the pinned file: correct url and sha256 in the configuration, or data.mirror"
                )
    return True


def _receive(url: str, partial: Path, timeout_s: float, remedy: str) -> int:
    """One request: append to `partial` what it lacks, or write it anew where the server sends all. Returns the status.

    Raises _Fault for what may pass, DownloadError for another refusal than 404.
    """
    held = partial.stat().st_size if partial.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    print(f"fetching {url}" + (f" from byte {held:,} on" if held else ""), flush=True)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as response:
            status = response.status_code
            if status in (requests.codes.not_found, requests.codes.gone):
                return requests.codes.not_found
            if status == requests.codes.requested_range_not_satisfiable:
                partial.unlink(missing_ok=True)
                raise _Fault(f"the server has no byte {held:,}: the partial file was discarded")
            if status >= 500 or status in (requests.codes.request_timeout, requests.codes.too_many_requests):
                raise _Fault(f"the server answers {status} {response.reason}")
            if status not in (requests.codes.ok, requests.codes.partial_content):
                raise DownloadError(f"{url}: the server refuses with {status} {response.reason}; {remedy}")
            continues = status == requests.codes.partial_content
            if continues and not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
                partial.unlink(missing_ok=True)
                raise _Fault("the server sent another range than asked: the partial file was discarded")
            _append(response, partial, "ab" if continues else "wb")
            return status
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _Fault(f"the connection failed ({error})") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {error}; correct the address in the configuration") from error


def _append(response: requests.Response, partial: Path, mode: str) -> None:
    """Every byte that arrives; a read of a whole piece (`iter_content`) would lose the last, incomplete one."""
    with partial.open(mode) as file:
        while piece := response.raw.read1(PIECE_BYTES):
            file.write(piece)


def _difference(file: Path, sha256: str) -> str:
    """What is wrong with `file`, in words; "" where its sha256 is right."""
    actual = sha256_of(file)
    return "" if actual == sha256 else f"{file.stat().st_size:,} bytes with sha256 {actual}, not the pinned {sha256}"


def _publish(partial: Path, target: Path) -> None:
    """Move to `target`, which may lie on another disk: copy beside it, sync, rename. FileError on a full disk."""
    with writing(target, partial.stat().st_size) as temporary:
        shutil.copyfile(partial, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    partial.unlink()
