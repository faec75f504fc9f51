"""Two training jobs on two cores against one alone, beside two controls that tell what holds them back.

`arithmetic` multiplies small matrices that stay in a core's own cache: less than 2 times the work means that the two
cores are not whole ones (threads of one physical core, a lower clock, a share of the host). `memory` copies arrays far
larger than any cache: its value is the memory's. Page faults and system seconds tell what the allocator costs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness

KINDS = ("update", "arithmetic", "memory")
FIELDS = ("seconds", "user", "system", "faults")


def workload(kind: str, folder: Path) -> Callable[[], object]:
    """One unit of work, a second or two: an update of a training job, or a control."""
    import torch

    from training_job import PROMPTS, own_trainer, prepare

    harness.one_thread()
    if kind == "update":
        start, train, _ = prepare(folder)
        trainer = own_trainer(folder, start, train, PROMPTS)
        return lambda: trainer.step(1)
    if kind == "arithmetic":
        small, out = torch.rand(64, 64), torch.empty(64, 64)
        return lambda: [torch.mm(small, small, out=out) for _ in range(150_000)]
    large, out = torch.rand(1 << 26), torch.empty(1 << 26)
    return lambda: [out.copy_(large) for _ in range(20)]


def worker(kind: str) -> None:
    """For each line on stdin do one unit and say FIELDS of it."""
    with tempfile.TemporaryDirectory() as folder:
        work = workload(kind, Path(folder))
        work()
        print("ready", flush=True)
        for _ in sys.stdin:
            begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            work()
            seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
            values = [seconds, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime]
            print(*values, after.ru_minflt - before.ru_minflt, flush=True)


class Job:
    """A worker process that waits between units."""

    def __init__(self, kind: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, __file__, "--worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def wait_until_ready(self) -> None:
        """RuntimeError where the worker has ended; its own message stands above."""
        if self.child.stdout.readline().strip() != "ready":
            raise RuntimeError("a worker of two_jobs.py ended before it was ready: its message stands above")

    def start(self) -> None:
        """Begin a unit."""
        self.child.stdin.write("go\n")
        self.child.stdin.flush()

    def result(self) -> dict[str, float]:
        """FIELDS of the unit begun last."""
        return dict(zip(FIELDS, map(float, self.child.stdout.readline().split()), strict=True))

    def close(self) -> None:
        """End the worker."""
        self.child.stdin.close()
        self.child.wait()


def side_by_side(jobs: list[Job]) -> list[dict[str, float]]:
    """FIELDS of each of the jobs, run at the same time."""
    for job in jobs:
        job.start()
    return [job.result() for job in jobs]


def measure(kind: str, repeats: int) -> list[str]:
    """A row of the table: one alone and two at a time, in turn."""
    jobs = [Job(kind), Job(kind)]
    for job in jobs:
        job.wait_until_ready()
    alone, pairs = [], []
    for repeat in range(repeats):
        alone += side_by_side([jobs[repeat % 2]])
        pairs.append(side_by_side(jobs))
    for job in jobs:
        job.close()
    work = [sum(one["seconds"] / job["seconds"] for job in pair) for one, pair in zip(alone, pairs, strict=True)]
    system = sum(one["system"] for one in alone) / sum(one["user"] + one["system"] for one in alone)
    return [
        kind,
        harness.spread([one["seconds"] for one in alone]),
        harness.spread([job["seconds"] for pair in pairs for job in pair]),
        f"**{harness.spread(work)}**",
        f"{100 * system:.1f} %",
        harness.spread([one["faults"] / 1000 for one in alone], 1),
    ]


def main() -> None:
    repeats = 2 if harness.quick(__doc__.splitlines()[0]) else 15
    harness.report(
        __file__,
        "Two jobs on two cores",
        f"Work done in the same time. One thread a job, {repeats} repeats in turn, median (min to max).",
        harness.table(
            ["job", "alone, s", "each of two, s", "work of two ÷ one", "system time", "page faults, thousands"],
            [measure(kind, repeats) for kind in KINDS],
        ),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main()
