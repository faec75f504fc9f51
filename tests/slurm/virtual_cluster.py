"""The virtual cluster as the tests see it: checkouts in which `snakemake --profile slurm` runs, and what SLURM says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from checkouts import ROOT, copy_checkout

HERE = Path(__file__).parent
PROFILE = ROOT / "slurm/config.yaml"
RUN = "results/smoke/miniature/grpo/seed1"
STATE = "results/smoke/state/miniature/grpo/seed1"
TARGET = f"{RUN}/metrics.parquet"
SMOKE = {  # changes of the smoke scale: jobs that ask for what the cluster has
    "seeds": [1],
    "resources": {
        "train_policy": {"threads": 1, "mem_mb": 2000, "runtime_min": 10},
        "generate_samples": {"threads": 2, "mem_mb": 4000, "runtime_min": 20},
        "grade_samples": {"threads": 1, "mem_mb": 3000, "runtime_min": 30},
    },
}
FAULT_TABLE: list[str] = []  # a line a fault, printed at the end
OPTIONS = [
    *("--profile", "slurm", "--configfile", "scale.yaml", "--config", "scale=smoke", "--latency-wait", "20"),
    # of a machine with two cores and jobs of seconds
    *("--jobs", "4", "--slurm-init-seconds-before-status-checks", "5", "--max-jobs-per-timespan", "100/5s"),
    *("--max-status-checks-per-second", "1"),
]


def say(*command: str) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(condition: Callable[[], object], what: str, pause_s: float = 0.05) -> None:
    """Wait until `condition` is true, five minutes at most."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, f"not within five minutes: {what}"
        time.sleep(pause_s)


def fill_in(profile: Path, scratch: Path) -> None:
    """What docs/cluster.md asks of a user: the commented lines of the profile's first part, with this site's names."""
    text = profile.read_text()
    for key, value in {"slurm_account": "lab", "slurm_partition": "main", "tmpdir": scratch}.items():
        text, found = re.subn(rf"^  # ({key}): \S+", rf"  \1: {value}", text, flags=re.M)
        assert found == 1
    text, found = re.subn(r"^# (set-resources:$|  \w+: \{slurm_partition: )", r"\1", text, flags=re.M)
    assert found == 7
    # the GPUs are fake: SLURM gives them, the scale's own `resources` ask for none
    profile.write_text(text.replace("{slurm_partition: gpu,", "{slurm_partition: main, gpu: 1,"))


@dataclass
class Site:
    """What all checkouts share: programs on the path, and the folder of the conda environments."""

    folder: Path
    shim: Path

    def environment(self) -> dict[str, str]:
        """Variables of a login shell of this site."""
        path = f"{self.shim}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}

    def checkout(self, name: str, scale: dict) -> Checkout:
        """A new checkout, its profile filled in as docs/cluster.md says, `scale` as changes of the smoke scale."""
        folder = copy_checkout(self.folder / name)
        fill_in(folder / "slurm/config.yaml", self.folder / "scratch")
        (self.folder / "scratch").mkdir(exist_ok=True)
        (self.folder / "conda").mkdir(exist_ok=True)
        (folder / ".conda").symlink_to(self.folder / "conda")
        checkout = Checkout(self, folder)
        checkout.scale(scale)
        return checkout


@dataclass
class Checkout:
    """A folder in which Snakemake runs."""

    site: Site
    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    def scale(self, changes: dict) -> None:
        """Write scale.yaml, which OPTIONS name: changes of the smoke scale."""
        (self.folder / "scale.yaml").write_text(yaml.safe_dump({"scales": {"smoke": changes}}))

    def copy(self, name: str, scale: dict) -> Checkout:
        """The same with all its results, under other changes of the smoke scale."""
        folder = self.site.folder / name
        shutil.copytree(self.folder, folder, symlinks=True)
        copied = Checkout(self.site, folder)
        copied.scale(scale)
        return copied

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start snakemake on the login node, at smoke scale; what it says is added to `said`."""
        return self.start_command(*before, "snakemake", *OPTIONS, *arguments)

    def start_command(self, *command: str) -> subprocess.Popen:
        """Start a command in a process group of its own."""
        with (self.folder / "said").open("a") as said:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.site.environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def said(self) -> str:
        """All that the snakemakes of this checkout said."""
        return (self.folder / "said").read_text()

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for a snakemake that must succeed."""
        code = process.wait(timeout=1800)
        assert code == 0, f"{self.folder}: code {code}\n{self.said()[-6000:]}"

    def run(self, *arguments: str) -> None:
        """Run snakemake to its end."""
        self.finish(self.start(*arguments))

    def update(self) -> int:
        """The last update that the training run says it has done."""
        progress = self.folder / STATE / "progress.json"
        return json.loads(progress.read_text())["update"] if progress.is_file() else 0

    def train_until(self, process: subprocess.Popen, update: int) -> None:
        """Wait until the training run has done `update`."""

        def there() -> bool:
            assert process.poll() is None, self.said()[-6000:]
            return self.update() >= update

        wait_for(there, f"update {update} in {self.folder}")

    def running(self) -> dict[str, str]:
        """The one running training job: {"id", "node"}."""
        lines = say("squeue", "--noheader", "--states=RUNNING", "--format=%i|%N|%k|%Z").splitlines()
        jobs = [line.split("|") for line in lines]
        (job,) = [job for job in jobs if job[3] == str(self.folder) and job[2].startswith("rule_train_policy")]
        return {"id": job[0], "node": job[1]}

    def accounting(self, *options: str) -> list[dict[str, str]]:
        """What sacct tells of this checkout's jobs, in the order of their ids."""
        names = ["JobID", "State", "ReqTRES", "AllocTRES", "Timelimit", "NodeList", "Partition", "Account", "Comment"]
        columns = ",".join([*names, "WorkDir"])
        lines = say("sacct", "--allocations", "--noheader", "--parsable2", f"--format={columns}", *options).splitlines()
        jobs = [dict(zip([*names, "WorkDir"], line.split("|"), strict=True)) for line in lines]
        return [job for job in jobs if job["WorkDir"] == str(self.folder)]

    def trainings(self, *options: str) -> list[dict[str, str]]:
        """sacct's lines of the training jobs."""
        return [job for job in self.accounting(*options) if job["Comment"].startswith("rule_train_policy")]

    def logs(self) -> str:
        """What snakemake said, which holds the log of every failed attempt, and the log of the last one."""
        files = self.folder.glob("results/smoke/logs/train_policy/*.log")
        return "\n".join([self.said(), *(file.read_text() for file in files)])

    def results(self) -> dict:
        """Metrics without seconds, validation, and the published checkpoints by their manifests' sha256."""
        output = self.folder / RUN
        rows = pq.read_table(output / "metrics.parquet").to_pylist()
        return {
            "metrics": [{k: v for k, v in row.items() if not k.startswith("seconds_")} for row in rows],
            "validation": pq.read_table(output / "validation.parquet").to_pylist(),
            "checkpoints": json.loads((output / "checkpoints/manifest.json").read_text()),
        }

    def stop(self) -> None:
        """End what a test that failed left: snakemakes, then their jobs."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for line in say("squeue", "--noheader", "--format=%i|%Z").splitlines():
            if line.endswith(f"|{self.folder}"):
                subprocess.run(["scancel", line.split("|")[0]], check=True)

    @contextmanager
    def counting_updates(self) -> Iterator[set]:
        """A set that grows by each update's record as it is written: one that is done again appears again."""
        written: set[tuple[str, int]] = set()
        ended = threading.Event()

        def look() -> None:
            for file in self.folder.glob(f"{STATE}/*/metrics/update*.json"):
                written.add((file.name, file.stat().st_mtime_ns))

        def watch() -> None:
            while not ended.wait(0.5):
                look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield written
        finally:
            ended.set()
            thread.join()
        look()


def processes_of(job: str) -> list[int]:
    """Process ids of a SLURM job: its steps' managers, and all that has its variables."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
            variables = (entry / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is not ours
            continue
        if title.startswith(f"slurmstepd: [{job}.".encode()) or f"SLURM_JOB_ID={job}".encode() in variables:
            found.append(int(entry.name))
    return found


def trainers_of(job: str) -> list[int]:
    """The processes of a job that train, one a rank."""
    programs = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in processes_of(job)}
    return [pid for pid, program in programs.items() if b"workflow_scripts/train_policy.py" in program[1:3]]


def trainer_of(job: str) -> int:
    """The process of a job that trains alone."""
    (pid,) = trainers_of(job)
    return pid


def kill_while_writing(job: str, folder: Path) -> None:
    """SIGKILL to the trainers of a job while a checkpoint below `folder` has its temporary name."""
    trainers = trainers_of(job)
    for _ in range(5):
        wait_for(lambda: list(folder.glob(".update*.tmp*")), "a checkpoint being written", pause_s=0.0005)
        for pid in trainers:
            os.kill(pid, signal.SIGSTOP)  # to look
        if list(folder.glob(".update*.tmp*")):
            break
        for pid in trainers:
            os.kill(pid, signal.SIGCONT)  # it was faster
    for pid in trainers:
        os.kill(pid, signal.SIGKILL)
