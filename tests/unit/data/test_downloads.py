"""download_data against a server on loopback that fails in each known way: one message with the remedy, nothing
half-written, and the rerun goes on and ends with the right file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import download_data
from fault_server import FaultServer, serving
from prerl.core.errors import UserError

ROOT = Path(__file__).parents[3]
NAME, BYTES = "math500.parquet", 65_850
CONTENT = random.Random(0).randbytes(BYTES)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def public(tmp_path_factory, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    folder = tmp_path_factory.mktemp("public")
    (folder / NAME).write_bytes(CONTENT)
    with serving(folder) as server:
        yield server


@dataclass
class Job:
    """One job's folders; run() calls the script as its rule does, in this process."""

    folder: Path
    url: str
    mirror: str | None = None
    patience: list[str] = field(default_factory=lambda: ["--timeout-s", "20", "--backoff-s", "0.01"])

    @property
    def target(self) -> Path:
        return self.folder / "downloads/math500"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def arguments(self) -> list[str]:
        source = json.dumps({"url": self.url, "name": NAME, "mirror": self.mirror})
        folders = ["--state", str(self.state), "--file", str(self.target)]
        return ["--source", source, "--sha256", SHA256, *folders, *self.patience]

    def run(self, monkeypatch) -> str:
        """The message with which the script ends; "" for success."""
        monkeypatch.setattr(sys, "argv", ["download_data.py", *self.arguments()])
        try:
            download_data.main()
        except UserError as error:
            return str(error)
        return ""

    def start(self, **options) -> subprocess.Popen[str]:
        command = [sys.executable, "workflow_scripts/download_data.py", *self.arguments()]
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )

    def nothing_at_the_output(self) -> bool:
        return list(self.target.parent.iterdir()) == []

    def is_whole(self) -> bool:
        """The right file, nothing beside it, no partial file left."""
        right = hashlib.sha256(self.target.read_bytes()).hexdigest() == SHA256
        return right and list(self.target.parent.iterdir()) == [self.target] and list(self.state.iterdir()) == []

    def kept_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.state.iterdir())


@pytest.fixture
def job(tmp_path, public: FaultServer) -> Job:
    return Job(tmp_path, public.url(NAME))


def test_a_download(job, public, monkeypatch):
    assert job.run(monkeypatch) == ""
    assert job.is_whole() and public.asked == [(NAME, 0)]


@pytest.mark.parametrize(
    ("fault", "requests", "said"),
    [
        ("corrupt", 1, f"gave {BYTES:,} bytes with sha256"),
        ("truncate", 1, f"gave {BYTES // 2:,} bytes with sha256"),
        ("short", 1, f"gave {BYTES - 100:,} bytes with sha256"),
        ("404", 1, "the server has no such file (404); correct the url in the configuration, or set data.mirror"),
        ("403", 1, "the server refuses with 403 Forbidden; rerun when it answers, or set data.mirror"),
        ("500", 5, "answers 500 Internal Server Error (5 attempts; nothing was kept); rerun when it answers"),
        ("drop", 5, "5 attempts; what arrived is kept); rerun when it answers, or set data.mirror"),
        ("stall", 5, "Read timed out"),
    ],
)
def test_a_fault_ends_in_one_message_and_the_rerun_in_the_file(job, public, monkeypatch, fault, requests, said):
    public.standing = fault
    if fault == "stall":
        job.patience[1] = "0.5"
    message = job.run(monkeypatch)
    assert message.startswith(f"{job.url}: ") and said in message
    assert "data.mirror" in message and "\n" not in message
    assert len(public.asked) == requests and job.nothing_at_the_output()
    kept = job.kept_bytes()
    assert (kept > 0) == (fault in ("drop", "stall"))
    public.standing = None
    assert job.run(monkeypatch) == ""
    assert job.is_whole() and public.asked[requests:] == [(NAME, kept)]


def test_wrong_content_is_named_by_both_sums(job, public, monkeypatch):
    public.standing = "truncate"
    half = hashlib.sha256(CONTENT[: BYTES // 2]).hexdigest()
    assert f"sha256 {half}, not the pinned {SHA256}; nothing was kept; rerun" in job.run(monkeypatch)


def test_a_dropped_connection_is_continued_where_it_broke(job, public, monkeypatch, capsys):
    public.faults = ["drop"]
    assert job.run(monkeypatch) == ""
    assert job.is_whole() and public.asked == [(NAME, 0), (NAME, BYTES // 2)]
    assert f"from byte {BYTES // 2:,} on" in capsys.readouterr().out


HALF, THREE_QUARTERS = 32_925, 49_387  # of 65,850 bytes; a dropped or silent connection brings half of the rest


@pytest.mark.parametrize(
    ("faults", "first_bytes"),
    [
        (["drop", "500"], [0, HALF, HALF]),
        (["drop", "stall"], [0, HALF, THREE_QUARTERS]),
        (["drop", "ignore range"], [0, HALF]),  # the whole file as answer
        (["drop", "other range"], [0, HALF, 0]),
        (["drop", "corrupt"], [0, HALF, 0]),  # seen at the end; of two answers, so fetched whole
        (["stall", "truncate"], [0, HALF, 0]),  # a file of half the length has no such range: 416
    ],
)
def test_faults_that_pass(job, public, monkeypatch, faults, first_bytes):
    public.faults = list(faults)
    if "stall" in faults:
        job.patience[1] = "1"
    assert job.run(monkeypatch) == "" and job.is_whole()
    assert public.asked == [(NAME, first) for first in first_bytes]


def test_a_damaged_partial_file_is_fetched_whole_once(job, public, monkeypatch):
    public.standing = "drop"
    job.run(monkeypatch)
    (partial,) = job.state.iterdir()
    damaged = bytearray(partial.read_bytes())
    damaged[0] ^= 1
    partial.write_bytes(damaged)
    public.standing, public.asked = None, []
    assert job.run(monkeypatch) == "" and job.is_whole()
    assert public.asked == [(NAME, len(damaged)), (NAME, 0)]


def test_a_partial_file_that_is_too_long_is_fetched_whole(job, public, monkeypatch):
    job.state.mkdir()
    (job.state / f"math500.{SHA256[:16]}").write_bytes(b"x" * (BYTES + 1))
    assert job.run(monkeypatch) == "" and job.is_whole()
    assert public.asked == [(NAME, BYTES + 1), (NAME, 0)]


def test_a_whole_file_counts_however_its_connection_ended(job, public, monkeypatch):
    public.standing = "long"  # announces 100 bytes more than it sends
    assert job.run(monkeypatch) == "" and job.is_whole() and len(public.asked) == 1


def test_a_killed_job_is_continued(job, public, monkeypatch):
    public.faults = ["stall"]
    job.patience = ["--timeout-s", "30"]
    process = job.start()
    deadline = time.monotonic() + 30
    while not (job.state.is_dir() and job.kept_bytes()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = job.kept_bytes()
    assert job.nothing_at_the_output() and 0 < kept < BYTES
    assert job.run(monkeypatch) == "" and job.is_whole()
    assert public.asked == [(NAME, 0), (NAME, kept)]


def test_a_full_disk(job, public, monkeypatch):
    limit = 20_000  # no file may be longer
    process = job.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in output
    assert "File too large; make room on the disk or correct the permissions, and rerun" in output
    assert job.nothing_at_the_output() and job.kept_bytes() <= limit
    assert job.run(monkeypatch) == "" and job.is_whole()


def test_a_full_disk_at_the_last_copy(job, public, monkeypatch):
    def half(source, target):
        target.write_bytes(source.read_bytes()[: BYTES // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", half)
        assert "math500 not written: No space left on device (about 65,850 bytes needed" in job.run(patch)
    assert job.nothing_at_the_output() and job.kept_bytes() == BYTES
    assert job.run(monkeypatch) == "" and job.is_whole() and public.asked == [(NAME, 0)]


def test_no_server(job, public, monkeypatch):
    job.url = "http://127.0.0.1:9/math500.parquet"  # the discard port, where nothing listens
    message = job.run(monkeypatch)
    assert "Connection refused" in message and "set data.mirror to a folder or address that holds" in message


class TestMirror:
    @pytest.fixture
    def mirror(self, tmp_path):
        folder = tmp_path / "mirror"
        folder.mkdir()
        with serving(folder) as server:
            yield server

    @pytest.fixture(params=["folder", "address"])
    def mirrored(self, request, job, mirror) -> Job:
        job.mirror = str(mirror.folder) if request.param == "folder" else mirror.url()
        return job

    def test_it_comes_first(self, mirrored, mirror, public, monkeypatch):
        (mirror.folder / NAME).write_bytes(CONTENT)
        assert mirrored.run(monkeypatch) == "" and mirrored.is_whole()
        assert public.asked == []

    def test_without_the_file_the_public_address_follows(self, mirrored, public, monkeypatch, capsys):
        assert mirrored.run(monkeypatch) == "" and mirrored.is_whole()
        assert public.asked == [(NAME, 0)]
        assert f"{mirrored.mirror} has no {NAME}: going to the public address" in capsys.readouterr().out

    def test_a_wrong_file_in_it_is_an_error(self, mirrored, mirror, public, monkeypatch):
        (mirror.folder / NAME).write_bytes(CONTENT[:-1])
        message = mirrored.run(monkeypatch)
        assert f"{BYTES - 1:,} bytes with sha256" in message and "data.mirror" in message
        assert mirrored.nothing_at_the_output() and public.asked == []

    def test_a_broken_one_is_an_error(self, job, mirror, public, monkeypatch):
        job.mirror, mirror.standing = mirror.url(), "500"
        assert "set data.mirror: null for the public address" in job.run(monkeypatch)
        assert job.nothing_at_the_output() and public.asked == []

    def test_what_the_mirror_began_the_public_address_ends(self, job, mirror, public, monkeypatch):
        (mirror.folder / NAME).write_bytes(CONTENT)
        job.mirror, mirror.standing = mirror.url(), "drop"
        job.run(monkeypatch)
        kept = job.kept_bytes()
        job.mirror = None
        assert job.run(monkeypatch) == "" and job.is_whole()
        assert kept > 0 and public.asked == [(NAME, kept)]

    def test_no_such_folder(self, job, public, monkeypatch):
        job.mirror = "mirrors"
        assert f"data.mirror: mirrors is not a folder (in {os.getcwd()}); correct it" in job.run(monkeypatch)
        assert public.asked == []

    def test_a_relative_folder(self, job, public, mirror, monkeypatch):
        (mirror.folder / NAME).write_bytes(CONTENT)
        monkeypatch.chdir(mirror.folder.parent)
        job.mirror = "mirror"
        assert job.run(monkeypatch) == "" and job.is_whole() and public.asked == []
