"""Faults of a running training job: each ends with the results of the undisturbed run, and says what was done again.

Every fault has a checkout and a snakemake of its own; three run at a time. Those that touch a whole node run alone.
"""

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from virtual_cluster import (
    FAULT_TABLE,
    HERE,
    RUN,
    SMOKE,
    STATE,
    TARGET,
    Checkout,
    kill_while_writing,
    processes_of,
    say,
    trainer_of,
    wait_for,
)

UPDATES, EVERY = 15, 4  # of two seconds on an idle core
SCALE = SMOKE | {
    "rollouts": {"samples_per_prompt": 8, "max_new_tokens": 90},
    "training": {"total_updates": UPDATES, "prompts_per_update": 64, "checkpoint_every": EVERY},
    "validation": {"samples_per_question": 1, "max_new_tokens": 48, "schedule": [{"every": 5, "until": "end"}]},
}
AT = 6  # the update at which most faults come
# A program of a busy SLURM: every third call fails, and each while `outage` is there. Of sbatch's every other submits.
BUSY = """#!/bin/sh
calls=$(flock {file}.lock sh -c 'echo >> {file}.calls; wc -l < {file}.calls')
if [ -e {folder}/outage ] || [ $((calls % 3)) = 2 ]; then
  [ {name} != sbatch ] || [ $((calls % 2)) = 0 ] || {real} "$@" > /dev/null
  echo "{said}" >&2
  exit 1
fi
exec {real} "$@"
"""
BUSY_SAYS = {
    "sbatch": "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "squeue": "slurm_load_jobs error: Unexpected message received",
    "scontrol": "slurm_load_ctl_conf error: Unexpected message received",
    "sacct": "sacct: error: Problem talking to the database: Connection refused",
}


def undisturbed(checkout: Checkout, cluster) -> None:
    checkout.run(TARGET)


def scancel(checkout: Checkout, cluster) -> None:
    """It saves when it is told to end."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, AT)
    job = checkout.running()["id"]
    variables = Path(f"/proc/{trainer_of(job)}/environ").read_bytes().split(b"\0")
    assert f"TMPDIR={checkout.site.folder}/scratch".encode() in variables  # the profile's tmpdir
    say("scancel", job)
    checkout.finish(snakemake)
    states = [job["State"].split()[0] for job in checkout.trainings()]
    assert states == ["CANCELLED", "COMPLETED"]


def killed_in_an_update(checkout: Checkout, cluster) -> None:
    """An update takes longer than KillWait: here the trainer is stopped until SLURM sends SIGKILL after SIGTERM."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, AT)
    job = checkout.running()["id"]
    trainer = trainer_of(job)
    say("scancel", job)
    with suppress(ProcessLookupError):
        while True:
            os.kill(trainer, signal.SIGSTOP)  # again and again: SLURM sends SIGCONT with SIGTERM
            time.sleep(0.02)
    done = checkout.update()
    checkpoints = (checkout.folder / STATE).glob("*/checkpoints/update*")
    assert max(int(path.name[6:]) for path in checkpoints) == done - done % EVERY
    checkout.finish(snakemake)
    assert [job["State"].split()[0] for job in checkout.trainings()] == ["CANCELLED", "COMPLETED"]
    assert "SIGTERM: update" not in checkout.logs()


def time_limit(checkout: Checkout, cluster) -> None:
    """A limit of a minute, of which less than half is left for training; from the third attempt on ten minutes."""
    checkout.run(TARGET, "--set-resources", "train_policy:runtime=1 if attempt < 3 else 10")
    *slices, last = checkout.trainings()
    assert [(job["Timelimit"], job["State"]) for job in slices] == [("00:01:00", "FAILED")] * len(slices)  # no TIMEOUT
    assert last["State"] == "COMPLETED" and len(slices) in (1, 2)
    assert checkout.logs().count("error: the time limit is near: update ") == len(slices)


def killed_while_writing(checkout: Checkout, cluster) -> None:
    """SIGKILL to the trainer while a checkpoint has its temporary name."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, 2)
    (folder,) = (checkout.folder / STATE).glob("*/checkpoints")
    kill_while_writing(checkout.running()["id"], folder)
    checkout.finish(snakemake)
    assert [job["State"] for job in checkout.trainings()] == ["FAILED", "COMPLETED"]
    assert not list(folder.glob(".update*.tmp*"))


def damaged_checkpoint(checkout: Checkout, cluster) -> None:
    """A byte of the newest checkpoint changes between two attempts."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, 2 * EVERY + 1)
    job = checkout.running()["id"]
    say("scancel", job)
    wait_for(lambda: not processes_of(job), "the end of the job")
    newest = max((checkout.folder / STATE).glob("*/checkpoints/update*"))
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    checkout.finish(snakemake)
    said = checkout.logs()
    assert f"{newest.name}/model.safetensors is damaged" in said
    assert f"Resuming from the checkpoint of update {2 * EVERY}: updates {2 * EVERY + 1} to " in said


def snakemake_killed(checkout: Checkout, cluster) -> None:
    """kill -9 on the login node while the job runs; the next snakemake submits it again, and its lock waits for it."""
    first = checkout.start(TARGET)
    checkout.train_until(first, AT)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (checkout.folder / RUN / "checkpoints/manifest.json").exists()
    locked = checkout.start(TARGET)
    assert locked.wait(timeout=120) == 1
    checkout.run("--unlock")
    checkout.run(TARGET)
    jobs = checkout.trainings()
    assert jobs[0]["State"] == jobs[-1]["State"] == "COMPLETED"
    assert "LockException" in checkout.said()
    if len(jobs) > 2:  # the second came while the first still ran
        assert {job["State"] for job in jobs[1:-1]} == {"FAILED"}
        assert f"{STATE} is in use by process " in checkout.logs()


def busy(checkout: Checkout, cluster) -> None:
    """Three jobs of data and the training: sbatch's second call fails, and the fifth, which submits the training."""
    programs = checkout.folder / "programs"
    programs.mkdir()
    for name, said in BUSY_SAYS.items():
        file = programs / name
        file.write_text(BUSY.format(name=name, file=file, folder=programs, real=shutil.which(name), said=said))
        file.chmod(0o755)
        Path(f"{file}.calls").touch()
    shutil.rmtree(checkout.folder / "results/smoke/data")
    path = f"PATH={programs}:{checkout.site.environment()['PATH']}"
    snakemake = checkout.start(TARGET, before=("env", path))
    checkout.train_until(snakemake, 2)
    (programs / "outage").touch()  # then neither scontrol, squeue nor sacct answers

    def asked() -> int:  # squeue, as the profile has it; sacct once scontrol does not tell MinJobAge
        return sum((programs / f"{name}.calls").read_text().count("\n") for name in ("squeue", "sacct"))

    enough = asked() + 8  # in a row; the plugin's default is five, then it forgets the job
    wait_for(lambda: asked() > enough, "eight questions")
    (programs / "outage").unlink()
    checkout.finish(snakemake)
    made = [f"prepare_miniature_data_wildcards_{name}" for name in ("chain4", "chain6", "train")]
    names = [f"rule_{job}" for job in [*made, "train_policy_wildcards_miniature_grpo_1"]]
    assert sorted((job["Comment"], job["State"]) for job in checkout.accounting()) == [(n, "COMPLETED") for n in names]
    assert (programs / "sbatch.calls").read_text().count("\n") == 5
    assert str(checkout.folder) not in say("squeue", "--noheader", "--format=%Z").splitlines()
    assert "Error in rule" not in checkout.said()


def full_disk(checkout: Checkout, cluster) -> None:
    """The state lies on a disk that has room for two checkpoints."""
    state = checkout.folder / "results/smoke/state"
    state.mkdir()
    say("mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(state))
    try:
        snakemake = checkout.start(TARGET)
        wait_for(lambda: "Trying to restart job" in checkout.said(), "the first attempt's end")
        assert "No space left on device" in checkout.logs()
        say("mount", "-o", "remount,size=200m", str(state))
        checkout.finish(snakemake)
        copy = checkout.folder / "state"
        shutil.copytree(state, copy)
    finally:
        say("umount", str(state))
    shutil.rmtree(state)
    copy.rename(state)


def two_runs(checkout: Checkout, cluster) -> None:
    """A second snakemake in the checkout ends at once, says why and submits nothing."""
    first = checkout.start(TARGET)
    checkout.train_until(first, 2)
    second = checkout.start(TARGET)
    assert second.wait(timeout=120) == 1
    assert "Error: Directory cannot be locked." in checkout.said()
    assert f"in the following directory:\n{checkout.folder}" in checkout.said()
    assert first.poll() is None
    checkout.finish(first)
    assert len(checkout.trainings()) == 1


def late_files(checkout: Checkout, cluster) -> None:
    """The login node sees what a node wrote ten seconds late: its view of the run's folder is another folder."""
    truth, view = checkout.folder / RUN, checkout.folder / "view"
    for folder in (truth, view):
        folder.mkdir(parents=True)
    mounted = f'mount --bind "{view}" "{truth}" && exec "$@"'
    snakemake = checkout.start(TARGET, before=("unshare", "--mount", "sh", "-c", mounted, "sh"))
    wait_for(lambda: (truth / "checkpoints/manifest.json").exists(), "the job's outputs")
    time.sleep(10)
    assert snakemake.poll() is None
    shutil.copytree(truth, view, dirs_exist_ok=True)
    checkout.finish(snakemake)
    assert len(checkout.trainings()) == 1


def preempted(checkout: Checkout, cluster) -> None:
    """A job of a partition that comes first takes the whole node: SLURM queues the training again under its id."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, AT)
    job = checkout.running()
    urgent = ["--partition=urgent", "--account=lab", f"--nodelist={job['node']}", "--exclusive", "--time=1"]
    say("sbatch", *urgent, "--output=/dev/null", "--wrap=sleep 3")
    checkout.finish(snakemake)
    assert [(line["JobID"], line["State"]) for line in checkout.trainings("--duplicates")] == [
        (job["id"], "PREEMPTED"),
        (job["id"], "COMPLETED"),
    ]


def node_down(checkout: Checkout, cluster) -> None:
    """A node loses its power: its daemon and all of the job's processes are gone, SLURM takes the other node."""
    snakemake = checkout.start(TARGET)
    checkout.train_until(snakemake, AT)
    job = checkout.running()
    daemon = cluster / f"run/slurmd.{job['node']}.pid"
    for pid in [int(daemon.read_text()), *processes_of(job["id"])]:
        os.kill(pid, signal.SIGKILL)
    say("scontrol", "update", f"NodeName={job['node']}", "State=DOWN", "Reason=power")
    try:
        checkout.finish(snakemake)
    finally:
        daemon.unlink()
        subprocess.run([HERE / "cluster.sh", "node", cluster, job["node"]], check=True)
        state = ("sinfo", "--noheader", f"--nodes={job['node']}", "--format=%T")
        wait_for(lambda: say(*state).strip() == "idle", f"{job['node']} returns to service by itself")
    lines = checkout.trainings("--duplicates")
    assert [(line["JobID"], line["State"]) for line in lines] == [(job["id"], "NODE_FAIL"), (job["id"], "COMPLETED")]
    assert lines[0]["NodeList"] != lines[1]["NodeList"]


# name: (the fault, updates that are done again at most)
TOGETHER = {
    "undisturbed": (undisturbed, 0),
    "scancel": (scancel, 0),
    "an update longer than KillWait": (killed_in_an_update, EVERY),
    "time limit": (time_limit, 0),
    "SIGKILL while a checkpoint is written": (killed_while_writing, EVERY),
    "newest checkpoint damaged": (damaged_checkpoint, EVERY),
    "snakemake killed": (snakemake_killed, 0),
    "busy SLURM": (busy, 0),
    "disk full": (full_disk, EVERY),
    "two runs in one checkout": (two_runs, 0),
    "files seen late": (late_files, 0),
}
ALONE = {"preemption": (preempted, 0), "node down": (node_down, EVERY)}


PLAYING: list[Checkout] = []


@dataclass
class Outcome:
    """What a fault ended in."""

    results: dict
    redone: int
    jobs: int


def play(base: Checkout, cluster, name: str) -> Outcome:
    """Let a fault happen in a checkout of its own."""
    fault = (TOGETHER | ALONE)[name][0]
    checkout = base.copy(name.replace(" ", "_"), SCALE)
    PLAYING.append(checkout)
    try:
        with checkout.counting_updates() as written:
            fault(checkout, cluster)
    finally:
        checkout.stop()
    return Outcome(checkout.results(), len(written) - UPDATES, len(checkout.trainings("--duplicates")))


@pytest.fixture(scope="module")
def together(base, cluster):
    """The futures of the faults that run beside one another; after a failed test the rest is stopped."""
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(play, base, cluster, name) for name in TOGETHER}
        pool.shutdown(wait=False, cancel_futures=True)
        for checkout in PLAYING:
            checkout.stop()


def check(name: str, outcome: Outcome, expected: dict) -> None:
    lost = UPDATES - len(outcome.results["metrics"])
    line = f"{name}: {outcome.jobs} jobs, {lost} updates lost, {outcome.redone} done again"
    FAULT_TABLE.append(line)
    assert [row["update"] for row in outcome.results["metrics"]] == list(range(1, UPDATES + 1))
    assert outcome.results == expected
    assert 0 <= outcome.redone <= (TOGETHER | ALONE)[name][1]


@pytest.mark.parametrize("name", TOGETHER)
def test_a_run_ends_as_the_undisturbed_one(together, name):
    check(name, together[name].result(), together["undisturbed"].result().results)


@pytest.mark.parametrize("name", ALONE)
def test_a_run_that_loses_its_node_ends_as_the_undisturbed_one(together, base, cluster, name):
    expected = [future.result() for future in together.values()][0].results  # all others have ended
    check(name, play(base, cluster, name), expected)
