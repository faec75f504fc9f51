"""Run snakemake and print its progress every 20 seconds: jobs, updates, time left. `make miniature` and `make smoke`.

Snakemake's whole output goes to results/{scale}/logs/snakemake.log, locked while snakemake or a job of it lives; its
errors are shown as they come. Ctrl-C is passed on to snakemake and its jobs; the exit code is snakemake's.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.core.errors import run_main
from prerl.planning.costs import stage_costs
from prerl.planning.dry_runs import planned_jobs

ROOT = Path(__file__).parents[1]
INTERVAL_S = 20
RESUMES = "The same command resumes where it stopped."
LOCKED = """Snakemake's lock is taken. If another snakemake works in this checkout, wait for it or end it.
If one was killed (kill -9, a power cut), remove its lock with
    {} --unlock
then start again: it resumes where that one stopped."""

Run = tuple[str, str, str]  # model, method, seed of one training run
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\w+)\)")
ERROR = re.compile(r"^\w*(Error|Exception)\b|^Error in|^Exiting because|^Failed to|^Logfile ")
ROUTINE = re.compile(r"^\[|^Select jobs|^Execute \d|^\d+ of \d+ steps")


@dataclass
class Plan:
    """What a dry run plans: jobs and seconds by rule (planning/costs.py), the training runs and their updates."""

    jobs: Counter = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    updates: int = 0


def read_plan(dry_run: str, block: Mapping) -> Plan:
    """The plan in the output of `snakemake -n`. block: the scale's, as read_config gives it."""
    jobs, methods = planned_jobs(dry_run), resolve_methods(block)
    costs = stage_costs(((job.rule, job.wildcards) for job in jobs if job.rule != "all"), block, methods)
    trained = [job.wildcards for job in jobs if job.rule == "train_policy"]
    return Plan(
        jobs=Counter(job.rule for job in jobs),
        seconds={rule: sum(cost.wall_s for cost in of_rule) for rule, of_rule in costs.items()},
        runs=[(run["model"], run["method"], run["seed"]) for run in trained],
        updates=sum(methods[run["method"]].last_update - methods[run["method"]].parent_update for run in trained),
    )


def updates_done(state: Path, run: Run, since: float) -> int:
    """Updates that a training run has done of its last phase, from its progress.json; 0 if not written since."""
    file = state / run[0] / run[1] / f"seed{run[2]}" / "progress.json"
    try:
        if file.stat().st_mtime < since:
            return 0
        progress = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # not started yet
        return 0
    return progress["update"] - progress["first_update"] + 1


def duration(seconds: float) -> str:
    """duration(3725) == '1 h 02 min'; duration(20) == 'under a minute'."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def describe(plan: Plan, finished: Counter, done: int, elapsed_s: float) -> str:
    """One line, as 'jobs 12/289 · updates 340/2750 · 3 min gone, about 25 min left'.

    finished: jobs by rule; done: training updates of all planned runs together. The time left goes by the planned
    seconds, of which only the proportions count.
    """
    shares = {rule: finished[rule] / plan.jobs[rule] for rule in plan.seconds}
    if plan.updates:
        shares["train_policy"] = done / plan.updates
    share = sum(plan.seconds[rule] * shares[rule] for rule in shares) / (sum(plan.seconds.values()) or 1.0)
    left = f", about {duration(elapsed_s * (1 - share) / share)} left" if share > 0.05 else ""
    trained = f" · updates {done}/{plan.updates}" if plan.updates else ""
    return f"jobs {finished.total()}/{plan.jobs.total()}{trained} · {duration(elapsed_s)} gone{left}"


class Output:
    """Follows snakemake's log: counts finished jobs, shows errors."""

    def __init__(self, file: Path) -> None:
        self.stream = file.open(encoding="utf-8")
        self.finished: Counter = Counter()
        self.in_error = False
        self.stopped = False  # by the user; the ends of jobs are then no news
        self.locked = False  # snakemake found its lock
        self.rest = ""

    def follow(self) -> None:
        """Read the lines that came since the last call."""
        *lines, self.rest = (self.rest + self.stream.read()).split("\n")
        for line in lines:
            if found := FINISHED.match(line):
                self.finished[found[1]] += 1
            self.locked |= line.startswith("LockException")
            self.in_error = bool(ERROR.match(line)) or (self.in_error and not ROUTINE.match(line))
            if self.in_error and not self.stopped:
                print(line, file=sys.stderr, flush=True)


def group_file(log: Path) -> Path:
    """File that names the process group of the snakemake that writes `log`, and its host."""
    return log.with_suffix(".group")


def lock(log: Path) -> TextIO:
    """Open an empty `log`, locked until the last process dies that writes to it: snakemake and its jobs inherit it.

    Exits with a message if an earlier run or a job of it still lives.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    stream = log.open("a", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        group, host = group_file(log).read_text(encoding="utf-8").split()
        sys.exit(
            f"An earlier run, or a job it left, is still working on {log.parents[1].relative_to(ROOT)}, process group "
            f"{group} on {host}. Wait for it, or end all of it there by\n    kill -INT -- -{group}\n"
            "then start again: it resumes where that one stopped."
        )
    stream.truncate(0)
    return stream


def run(command: list[str], log: Path, plan: Plan, state: Path) -> tuple[int, bool]:
    """Run snakemake to its end, printing a line of progress every INTERVAL_S.

    Returns its exit code and whether it found its lock taken.
    """
    started = last_line = time.time()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `make miniature &` in a script starts with it ignored
    with lock(log) as stream:
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        group_file(log).write_text(f"{child.pid} {socket.gethostname()}", encoding="utf-8")

    output = Output(log)

    def pass_on(number: int, _frame: object) -> None:
        output.stopped = True
        print("Stopping the jobs …", file=sys.stderr, flush=True)
        os.killpg(child.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    while True:
        try:
            code = child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = None
        output.follow()
        if code is not None:
            return code, output.locked
        if time.time() - last_line >= INTERVAL_S:
            last_line = time.time()
            done = sum(updates_done(state, training_run, started) for training_run in plan.runs)
            print(describe(plan, output.finished, done, last_line - started), flush=True)


def main() -> int:
    """Plan, run, and name the files to open."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", required=True, help="block of config.yaml")
    parser.add_argument("--cores", type=int, required=True, help="cores that all jobs share")
    arguments = parser.parse_args()
    results = Path("results") / arguments.scale
    snakemake = ["snakemake", "--config", f"scale={arguments.scale}"]
    dry_run = subprocess.run([*snakemake, "-n"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if dry_run.returncode:
        print(dry_run.stdout + dry_run.stderr, file=sys.stderr)
        return dry_run.returncode
    plan = read_plan(dry_run.stdout + dry_run.stderr, read_config(read_files() | {"scale": arguments.scale}))
    log = ROOT / results / "logs/snakemake.log"
    print(
        f"{plan.jobs.total()} jobs, {plan.updates} training updates; details in {results}/logs/snakemake.log",
        flush=True,
    )
    # Snakemake 9.27 looks for new jobs once a timespan for every job that has ended: with the default of a second and
    # hundreds of jobs that takes a fifth of a core. It ends up to a timespan after its last job.
    command = [*snakemake, "--cores", str(arguments.cores), "--max-jobs-per-timespan", "500/5s"]
    code, locked = run(command, log, plan, ROOT / results / "state")
    if code:
        print(f"snakemake ended with code {code}; its whole output is in {results}/logs/snakemake.log", file=sys.stderr)
        print(LOCKED.format(shutil.which("snakemake")) if locked else RESUMES, file=sys.stderr)
        return code
    print(f"Done. Open {results}/report.html")
    print(f"  claims:  {results}/tables/table_claims.md")
    print(f"  figures: {results}/figures/figure_*.pdf and .png")
    return 0


if __name__ == "__main__":
    run_main(main)
