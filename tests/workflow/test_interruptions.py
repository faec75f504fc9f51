"""Ctrl-C, a killed snakemake and two runs at once, on a real training job; what the next run says and needs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkouts import copy_checkout, environment, snakemake

TARGET = "results/smoke/miniature/grpo/seed1/metrics.parquet"
SMOKE = ("--cores", "2", TARGET, "--config", "scale=smoke")
STATE = "results/smoke/state/miniature/grpo/seed1"
LIMIT_S = 30  # 5 s on two busy cores; Python and torch unwind


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with base model and problems, whose smoke scale trains long enough to be interrupted."""
    folder = copy_checkout(tmp_path_factory.mktemp("interrupted") / "workflow")
    config = folder / "scales/smoke.yaml"
    text = config.read_text()
    short = "training: {total_updates: 3, prompts_per_update: 8, checkpoint_every: 1}"
    assert short in text
    text = text.replace(short, "training: {total_updates: 400, prompts_per_update: 8, checkpoint_every: 2}")
    assert "seeds: [1, 2]\n" in text
    config.write_text(text.replace("seeds: [1, 2]\n", "seeds: [1]\n"))
    data = [f"results/smoke/data/{name}.parquet" for name in ("train", "chain4", "chain6")]
    made = snakemake(
        folder, "--cores", "2", "results/smoke/miniature/base/seed1/model/manifest.json", *data, *SMOKE[3:]
    )
    assert made.returncode == 0, made.stdout
    yield folder
    for process in working_in(folder):  # of a test that failed
        os.kill(process, signal.SIGKILL)


@pytest.fixture(autouse=True)
def interruptible():
    """A test run that was itself started in the background ignores SIGINT, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(folder: Path, *command: str) -> subprocess.Popen:
    """A process group of its own, as a terminal gives one; its output goes to `folder`/said."""
    with (folder / "said").open("w") as said:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def updates(folder: Path) -> int:
    """Finished updates of all training runs together, checkpointed or not."""
    return sum(
        json.loads(file.read_text())["update"] for file in folder.glob("results/smoke/state/*/*/*/progress.json")
    )


def newest_checkpoint(folder: Path) -> int:
    return max(int(path.name[6:]) for path in (folder / STATE).glob("*/checkpoints/update*"))


def train_until(process: subprocess.Popen, folder: Path, update: int) -> None:
    while updates(folder) < update:
        assert process.poll() is None, (folder / "said").read_text()
        time.sleep(0.05)


def working_in(folder: Path, script: str = "") -> list[int]:
    """Process ids of those that work in `folder`; of a script alone if it is given."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            first = (entry / "cmdline").read_bytes().split(b"\0")[1:2]
            if os.readlink(entry / "cwd") == str(folder) and (not script or first == [script.encode()]):
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is another user's
            continue
    return found


def training_jobs(folder: Path) -> list[int]:
    return working_in(folder, "workflow_scripts/train_policy.py")


def wait_for(condition) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < LIMIT_S
        time.sleep(0.05)
    return time.monotonic() - started


def progress_command() -> list[str]:
    """What `make smoke CORES=1` runs."""
    return [sys.executable, "workflow_scripts/show_progress.py", "--scale", "smoke", "--cores", "1"]


def test_ctrl_c_ends_within_seconds_and_the_next_run_goes_on(folder):
    process = start(folder, "snakemake", *SMOKE)
    train_until(process, folder, 3)
    os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the jobs too
    seconds = wait_for(lambda: process.poll() is not None)
    print(f"\nCtrl-C: {seconds:.1f} s")
    assert process.returncode != 0 and not training_jobs(folder)
    done, saved = updates(folder), newest_checkpoint(folder)
    assert saved >= done - 1  # checkpoint_every: 2
    (record,) = (folder / STATE).glob(f"*/metrics/update{saved:06d}.json")
    written = record.stat().st_mtime_ns
    process = start(folder, "snakemake", *SMOKE)  # no unlock
    train_until(process, folder, done + 1)
    assert record.stat().st_mtime_ns == written  # what the checkpoint holds is not done again
    records = sorted((folder / STATE).glob("*/metrics/update*.json"))
    assert [int(path.stem[6:]) for path in records] == list(range(1, len(records) + 1))
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: process.poll() is not None)


def test_after_kill_9_of_snakemake_the_orphan_keeps_its_state_and_one_command_unlocks(folder):
    process = start(folder, "snakemake", *SMOKE)
    train_until(process, folder, updates(folder) + 1)
    process.kill()
    process.wait()
    (orphan,) = training_jobs(folder)

    locked = snakemake(folder, *SMOKE)
    assert locked.returncode == 1 and "LockException" in locked.stdout and "--unlock" in locked.stdout
    assert snakemake(folder, "--unlock").returncode == 0
    second = snakemake(folder, *SMOKE)  # Snakemake cannot see the orphan; the job's own lock does
    assert second.returncode == 1
    assert f"{STATE} is in use by process {orphan} on " in second.stdout, second.stdout
    before = updates(folder)
    wait_for(lambda: updates(folder) > before)  # the orphan works on

    os.kill(orphan, signal.SIGINT)
    wait_for(lambda: not training_jobs(folder))
    process = start(folder, "snakemake", *SMOKE)
    train_until(process, folder, updates(folder) + 1)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: process.poll() is not None)


def test_two_runs_of_make_and_a_killed_one(folder):
    """`make smoke` beside `make smoke`, beside the orphans of a killed one, and after them."""
    first = start(folder, *progress_command())
    train_until(first, folder, updates(folder) + 1)
    log = folder / "results/smoke/logs/snakemake.log"
    size = log.stat().st_size

    def refused() -> str:
        result = subprocess.run(
            progress_command(), cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert result.returncode == 1, result.stdout + result.stderr
        return result.stderr

    said = refused()
    assert "is still working on results/smoke" in said and log.stat().st_size >= size
    group = int(re.search(r"kill -INT -- -(\d+)", said)[1])
    first.kill()  # snakemake goes on without it
    first.wait()
    os.kill(group, signal.SIGKILL)  # and the jobs without snakemake
    assert training_jobs(folder)
    assert f"kill -INT -- -{group}" in refused()
    os.killpg(group, signal.SIGINT)  # the remedy that it names
    wait_for(lambda: not training_jobs(folder))

    said = refused()
    command = re.search(r"remove its lock with\n +(\S+ --unlock)\n", said)[1]
    assert subprocess.run(command.split(), cwd=folder, env=environment(), capture_output=True).returncode == 0
    again = start(folder, *progress_command())
    train_until(again, folder, updates(folder) + 1)
    again.send_signal(signal.SIGINT)  # Ctrl-C at `make`
    seconds = wait_for(lambda: again.poll() is not None)
    print(f"\nCtrl-C at make: {seconds:.1f} s")
    assert not training_jobs(folder)
    assert "The same command resumes where it stopped." in (folder / "said").read_text()
