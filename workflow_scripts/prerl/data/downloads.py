"""Download one file pinned by its checksum, from a mirror or its public address: resumable, complete or not at all.

The checksum alone decides, so a partial file may be continued from a different server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import requests
import urllib3

from prerl.core.errors import UserError
from prerl.core.files import writing
from prerl.core.hashes import sha256_of

PIECE_BYTES = 1 << 16
PROGRESS_BYTES = 1 << 20  # a connection that delivered this much does not count as a failed attempt


class DownloadError(UserError):
    """A file that cannot be downloaded; the message names the address, the fault and the remedy."""


class _Fault(Exception):
    """A fault that another attempt may fix: no connection, a broken or silent one, 5xx, a wrong range."""


@dataclass(frozen=True)
class Source:
    """Where a file is: `mirror` (folder, http(s) address or None) holds it as `name`; `url` is its public address."""

    url: str
    name: str
    mirror: str | None


@dataclass(frozen=True)
class Address:
    """An http(s) address, its request headers, and the remedies if it `refused` or sent something `wrong`."""

    url: str
    refused: str
    wrong: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Patience:
    """timeout_s: to connect, and between reads; backoff_s: wait before the second attempt, then doubled.

    attempts: this many in a row with little progress are an error.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0


WRONG = (
    "rerun, and if it happens again the address no longer serves the pinned file: correct url and sha256 in the "
    "configuration, or data.mirror"
)


def download(source: Source, sha256: str, target: Path, partial: Path, patience: Patience) -> None:
    """Write `target`, by rename, once its sha256 is right. The public address is next if the mirror lacks the file.

    Args:
        partial: keeps what has arrived if the job dies; the next call resumes there. Removed at the end.

    Raises DownloadError, or FileError on a full disk; `target` is then unchanged.
    """
    if not _from_mirror(source, sha256, partial, patience):
        remedy = f"rerun when it answers, or set data.mirror to a folder or address that holds {source.name}"
        if not fetch(Address(source.url, remedy, WRONG), sha256, partial, patience):
            raise DownloadError(
                f"{source.url}: the server has no such file (404); correct the url in the configuration, or set "
                f"data.mirror to a folder or address that holds {source.name}"
            )
    _publish(partial, target)


def _from_mirror(source: Source, sha256: str, partial: Path, patience: Patience) -> bool:
    """False if there is no mirror, or it lacks the file."""
    if source.mirror is None:
        return False
    if "://" in source.mirror:
        url = f"{source.mirror.rstrip('/')}/{quote(source.name)}"
        remedy = "rerun when it answers, put a whole copy there, or set data.mirror: null for the public address"
        found = fetch(Address(url, remedy, WRONG), sha256, partial, patience)
    else:
        found = _copy(Path(source.mirror), source.name, sha256, partial)
    if not found:
        print(f"the mirror {source.mirror} has no {source.name}: going to the public address", flush=True)
    return found


def _copy(folder: Path, name: str, sha256: str, partial: Path) -> bool:
    """Copy `name` of a mirror folder to `partial`; False if the folder lacks it."""
    if not folder.is_dir():
        raise DownloadError(f"data.mirror: {folder} is not a folder (in {Path.cwd()}); correct it or set it to null")
    file = folder / name
    if not file.is_file():
        return False
    print(f"copying {file}", flush=True)
    fault = difference(file, sha256)
    if fault:
        raise DownloadError(f"{file} has {fault}; put a whole copy there, or set data.mirror: null")
    shutil.copyfile(file, partial)
    return True


def fetch(address: Address, digest: str, partial: Path, patience: Patience) -> bool:
    """Fetch to `partial` until its `digest` is right (see `digest_of`); False if the server has no such file.

    Transient faults are retried. A wrong file pieced together from two responses is fetched once more,
    complete; one from a single response is an error. Raises DownloadError.
    """
    fault, attempts = "", 0
    while not partial.is_file() or difference(partial, digest):
        if attempts == patience.attempts:
            kept = "what arrived is kept" if partial.is_file() else "nothing was kept"
            raise DownloadError(f"{address.url}: {fault} ({attempts} attempts; {kept}); {address.refused}")
        if attempts:
            wait_s = patience.backoff_s * 2 ** (attempts - 1)
            print(f"{fault}; retrying in {wait_s:g} s", flush=True)
            time.sleep(wait_s)
        attempts += 1
        held = _held(partial)
        try:
            status = _receive(address, partial, patience.timeout_s)
        except _Fault as error:
            fault = str(error)
            if _held(partial) >= held + PROGRESS_BYTES:
                attempts = 1
            continue
        if status == requests.codes.not_found:
            return False
        wrong = difference(partial, digest)
        if not wrong:
            return True
        partial.unlink()
        fault = f"the server gave {wrong}"
        if status != requests.codes.partial_content:
            raise DownloadError(f"{address.url}: {fault}; nothing was kept; {address.wrong}")
    return True


def _held(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _receive(address: Address, partial: Path, timeout_s: float) -> int:
    """One request: append what `partial` lacks, or rewrite it if the server sends everything. Returns the status.

    Raises _Fault for transient faults, DownloadError for a refusal other than 404.
    """
    url, held = address.url, _held(partial)
    headers = address.headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
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
                raise DownloadError(f"{url}: the server refuses with {status} {response.reason}; {address.refused}")
            continues = status == requests.codes.partial_content
            if continues and not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
                partial.unlink(missing_ok=True)
                raise _Fault("the server sent a different range than requested: the partial file was discarded")
            _append(response, partial, "ab" if continues else "wb")
            return status
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _Fault(f"the connection failed ({error})") from error
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {error}; correct the address in the configuration") from error


def _append(response: requests.Response, partial: Path, mode: str) -> None:
    """Write every byte that arrives; reading whole chunks (`iter_content`) would lose the last, incomplete one."""
    with partial.open(mode) as file:
        while piece := response.raw.read1(PIECE_BYTES):
            file.write(piece)


def digest_of(file: Path, like: str) -> str:
    """Hex digest of a file, of the same kind as `like`: 64 digits are a sha256, 40 a git blob id."""
    if len(like) == 64:
        return sha256_of(file)
    content = file.read_bytes()  # only small files; large ones have a sha256
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def difference(file: Path, digest: str) -> str:
    """What is wrong with `file`, in words; "" if its digest is right."""
    actual = digest_of(file, digest)
    kind = "sha256" if len(digest) == 64 else "git id"
    return "" if actual == digest else f"{file.stat().st_size:,} bytes with {kind} {actual}, not the pinned {digest}"


def _publish(partial: Path, target: Path) -> None:
    """Move to `target`, which may lie on another disk: copy beside it, sync, rename. FileError on a full disk."""
    with writing(target, partial.stat().st_size) as temporary:
        shutil.copyfile(partial, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    partial.unlink()
