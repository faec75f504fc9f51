"""Run snakemake and show its progress: jobs, updates, time left, what runs now. `make miniature` and its like.

A bar on a terminal, elsewhere a line every 20 seconds.

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
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.core.errors import run_main
from prerl.planning.costs import stage_costs
from prerl.planning.dry_runs import planned_jobs
from prerl.planning.gpus import choose_gpus

ROOT = Path(__file__).parents[1]
INTERVAL_S = 20
RESUMES = "The same command resumes where it stopped."
LOCKED = """Snakemake's lock is taken. If another snakemake works in this checkout, wait for it or end it.
If one was killed (kill -9, a power cut), remove its lock with
    {} --unlock
then start again: it resumes where that one stopped."""

MADE = {
    "all": {
        "page": "index.html",
        "claims": "tables/table_claims.md",
        "figures": "figures/figure_*.pdf and .png",
    },
    "baselines": {"table": "tables/table_baselines.md and .csv"},
    "headline": {"table": "tables/table_headline.md and .csv"},
}
"""What a target leaves for the user to open."""

Run = tuple[str, str, str]  # model, method, seed of one training run
RULE = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")
JOB_ID, WILDCARDS = re.compile(r"^    jobid: (\d+)$"), re.compile(r"^    wildcards: (.+)$")
FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\w+)\)")
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


def progress_of(state: Path, run: Run, since: float) -> dict | None:
    """A training run's progress.json (training/state.py); None if it has not been written since."""
    file = state / run[0] / run[1] / f"seed{run[2]}" / "progress.json"
    try:
        return None if file.stat().st_mtime < since else json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # not started yet
        return None


def updates_done(progress: Mapping | None) -> int:
    """Updates that a training run has done of its last phase."""
    return 0 if progress is None else progress["update"] - progress["first_update"] + 1


def duration(seconds: float) -> str:
    """duration(3725) == '1 h 02 min'; duration(20) == 'under a minute'."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def under_way(plan: Plan, running_s: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Jobs' worth of work by rule in the running jobs: of each its seconds by the planned ones, at most nine tenths."""
    parts: dict[str, float] = defaultdict(float)
    for rule, seconds in running_s:
        if planned_s := plan.seconds.get(rule, 0.0):
            parts[rule] += min(seconds * plan.jobs[rule] / planned_s, 0.9)
    return parts


def share_done(plan: Plan, finished: Counter, done: int, running: Mapping[str, float]) -> float:
    """Share of the planned seconds that is done.

    finished and running: jobs' worth by rule; done: training updates of all planned runs.
    """
    shares = {rule: (finished[rule] + running.get(rule, 0)) / plan.jobs[rule] for rule in plan.seconds}
    if plan.updates:
        shares["train_policy"] = done / plan.updates
    return sum(plan.seconds[rule] * shares[rule] for rule in shares) / (sum(plan.seconds.values()) or 1.0)


def describe(plan: Plan, finished: Counter, done: int, running: Mapping[str, float], elapsed_s: float) -> str:
    """As 'jobs 12/289 · updates 340/2750 · 3 min gone, about 25 min left', by proportions of the planned seconds."""
    share = share_done(plan, finished, done, running)
    left = f", about {duration(elapsed_s * (1 - share) / share)} left" if share > 0.05 else ""
    trained = f" · updates {done}/{plan.updates}" if plan.updates else ""
    return f"jobs {finished.total()}/{plan.jobs.total()}{trained} · {duration(elapsed_s)} gone{left}"


def name_of(rule: str, wildcards: Mapping[str, str], progress: Mapping | None = None) -> str:
    """As 'train_policy dsrl seed 11, update 31 of 60, reward 0.42'."""
    words = [value for key, value in wildcards.items() if key not in ("model", "seed")]
    words += [f"seed {wildcards['seed']}"] if "seed" in wildcards else []
    said = " ".join([rule, *words])
    if progress is not None:
        said += f", update {progress['update']} of {progress['updates']}, reward {progress['reward']:.2f}"
    return said


class Output:
    """Follows snakemake's log: running and finished jobs, errors, which it shows."""

    def __init__(self, file: Path) -> None:
        self.stream = file.open(encoding="utf-8")
        self.finished: Counter = Counter()  # by rule
        self.running: dict[str, tuple[str, dict[str, str]]] = {}  # job id -> rule, wildcards
        self.last = ""  # the job that ended last
        self.in_error = False
        self.stopped = False  # by the user; the ends of jobs are then no news
        self.locked = False  # snakemake found its lock
        self.rest = ""
        self.started = ""  # job id and rule of the job whose description is being read
        self.rule = ""

    def follow(self) -> None:
        """Read the lines that came since the last call."""
        *lines, self.rest = (self.rest + self.stream.read()).split("\n")
        for line in lines:
            if found := RULE.match(line):
                self.rule = found[1]
            elif found := JOB_ID.match(line):
                self.started = found[1]
                if self.in_error:  # the job that failed
                    self.running.pop(self.started, None)
                else:
                    self.running[self.started] = (self.rule, {})
            elif (found := WILDCARDS.match(line)) and self.started in self.running:
                pairs = (pair.partition("=") for pair in found[1].split(", "))
                self.running[self.started][1].update({name: value for name, _, value in pairs})
            elif found := FINISHED.match(line):
                self.finished[found[2]] += 1
                self.last = name_of(*self.running.pop(found[1], (found[2], {})))
            self.locked |= line.startswith("LockException")
            self.in_error = bool(ERROR.match(line)) or (self.in_error and not ROUTINE.match(line))
            if self.in_error and not self.stopped:
                print(line, file=sys.stderr, flush=True)


class Display:
    """What the user sees of a run: bars on a terminal, lines elsewhere."""

    def __init__(self, plan: Plan, state: Path, started: float) -> None:
        self.plan, self.state, self.started = plan, state, started
        self.last_line = started
        self.seen: dict[str, float] = {}  # job id -> when it was first seen to run
        console = Console()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), console=console
        )
        self.rows: dict[str, TaskID] = {}  # job id ("" for all work) -> row
        if console.is_terminal:
            self.bars.start()
            self.rows[""] = self.bars.add_task("", total=1.0)

    def show(self, output: Output) -> None:
        """Redraw the bars, or print a line if the last one is INTERVAL_S old."""
        now = time.time()
        self.seen = {job: self.seen.get(job, now) for job in output.running}
        if not self.rows and now - self.last_line < INTERVAL_S:
            return
        self.last_line = now
        done = sum(updates_done(progress_of(self.state, run, self.started)) for run in self.plan.runs)
        parts = under_way(self.plan, ((output.running[job][0], now - began) for job, began in self.seen.items()))
        line = describe(self.plan, output.finished, done, parts, now - self.started)
        running = {job: self.described(*of) for job, of in output.running.items()}
        if not self.rows:
            names = "; ".join(name for name, _ in running.values())
            print(line + (f" · now {names}" if names else ""), flush=True)
            return
        last = f" · last {output.last}" if output.last else ""
        done_of_all = share_done(self.plan, output.finished, done, parts)
        self.bars.update(self.rows[""], description=line + last, completed=done_of_all)
        for job in [job for job in self.rows if job and job not in running]:
            self.bars.remove_task(self.rows.pop(job))
        for job, (name, share) in running.items():
            if job not in self.rows:
                self.rows[job] = self.bars.add_task("", total=None if share is None else 1.0)
            self.bars.update(self.rows[job], description=f"  {name}", completed=share or 0.0)

    def described(self, rule: str, wildcards: Mapping[str, str]) -> tuple[str, float | None]:
        """Name of a running job, and the share of its updates that is done if it trains a policy."""
        if rule != "train_policy":
            return name_of(rule, wildcards), None
        run = (wildcards["model"], wildcards["method"], wildcards["seed"])
        progress = progress_of(self.state, run, self.started)
        if progress is None:
            return name_of(rule, wildcards), 0.0
        return name_of(rule, wildcards, progress), updates_done(progress) / (
            progress["updates"] - progress["first_update"] + 1
        )

    def end(self) -> None:
        """Leave the terminal as it was."""
        self.bars.stop()


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
    """Run snakemake to its end, showing its progress.

    Returns its exit code and whether it found its lock taken.
    """
    started = time.time()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `make miniature &` in a script starts with it ignored
    with lock(log) as stream:
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        group_file(log).write_text(f"{child.pid} {socket.gethostname()}", encoding="utf-8")

    output, display = Output(log), Display(plan, state, started)

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
            display.end()
            return code, output.locked
        display.show(output)


def main() -> int:
    """Plan, run, and name the files to open."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", required=True, help="block of config.yaml")
    parser.add_argument("--cores", type=int, required=True, help="cores that all jobs share")
    parser.add_argument("--target", default="all", choices=list(MADE), help="default: all")
    arguments = parser.parse_args()
    results = Path("results") / arguments.scale
    snakemake = ["snakemake", arguments.target, "--config", f"scale={arguments.scale}"]
    dry_run = subprocess.run([*snakemake, "-n"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if dry_run.returncode:
        print(dry_run.stdout + dry_run.stderr, file=sys.stderr)
        return dry_run.returncode
    block = read_config(read_files() | {"scale": arguments.scale})
    block = choose_gpus(block, resolve_methods(block))
    plan = read_plan(dry_run.stdout + dry_run.stderr, block)
    log = ROOT / results / "logs/snakemake.log"
    print(
        f"{plan.jobs.total()} jobs, {plan.updates} training updates; details in {results}/logs/snakemake.log",
        flush=True,
    )
    command = [*snakemake, "--cores", str(arguments.cores)]
    code, locked = run(command, log, plan, ROOT / results / "state")
    if code:
        print(f"snakemake ended with code {code}; its whole output is in {results}/logs/snakemake.log", file=sys.stderr)
        print(LOCKED.format(shutil.which("snakemake")) if locked else RESUMES, file=sys.stderr)
        return code
    print("Done.", *(f"  {what}: {results}/{files}" for what, files in MADE[arguments.target].items()), sep="\n")
    if "reading" in block:
        print(block["reading"])
    return 0


if __name__ == "__main__":
    run_main(main)
