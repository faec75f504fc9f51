"""Seconds to redraw one figure of a finished run, and from `snakemake` to its first job, in a copy of the checkout.

The copy takes the checkout's results/smoke with Snakemake's records where they are there, and first makes what the
figure needs (minutes where it must begin from nothing).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import harness
from checkouts import copy_checkout, environment

FIGURE = "figure_alignment"  # of all figures the one that needs the fewest jobs first
LIMIT_S = 15.0
STARTED = re.compile(r"^(?:local)?rule (\w+):$")


def copy_finished(folder: Path) -> None:
    """The workflow, and what there is of the smoke run with Snakemake's records."""
    copy_checkout(folder)
    for part in ("results/smoke", ".snakemake"):
        if (harness.ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("conda*", "locks", "log")
            shutil.copytree(harness.ROOT / part, folder / part, ignore=ignored, symlinks=True)


def snakemake(folder: Path, *arguments: str, stop_at_first_job: bool = False) -> tuple[float, float | None, list[str]]:
    """(seconds in all, seconds to the first job, rules started) of one call. RuntimeError where it fails."""
    begin = time.perf_counter()
    first, rules, lines = None, [], []
    child = subprocess.Popen(
        ["snakemake", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in child.stdout:
        lines.append(line)
        if found := STARTED.match(line):
            first = first or time.perf_counter() - begin
            rules.append(found[1])
            if stop_at_first_job and len(rules) == 1:
                os.killpg(child.pid, signal.SIGKILL)  # in the copy, whose lock is off
    if child.wait() and not stop_at_first_job:
        raise RuntimeError(f"snakemake {' '.join(arguments)} failed:\n{''.join(lines[-40:])}")
    return time.perf_counter() - begin, first, rules


def main() -> None:
    repeats = 2 if harness.quick(__doc__.splitlines()[0]) else 7
    smoke, miniature = ("--config", "scale=smoke"), ("--config", "scale=miniature")
    whole, first, plan, miniature_first = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_finished(folder)
        snakemake(folder, "--cores", "2", *smoke, "--", FIGURE)
        for _ in range(repeats):
            redraw = snakemake(folder, "--cores", "2", *smoke, "--forcerun", FIGURE, "--", FIGURE)
            if redraw[2] != [FIGURE]:
                raise RuntimeError(f"redrawing {FIGURE} started {redraw[2]}: it should start itself alone")
            whole.append(redraw[0])
            first.append(redraw[1])
            plan.append(snakemake(folder, "-n", *smoke)[0])
            whole_run = snakemake(
                folder, "--cores", "2", "--nolock", "--rerun-incomplete", *miniature, stop_at_first_job=True
            )
            miniature_first.append(whole_run[1])
        jobs = len(snakemake(folder, "-n", "--nolock", *miniature)[2])
    harness.report(
        __file__,
        "Snakemake: redrawing a figure, first job",
        f"{repeats} repeats in turn, median (min to max), seconds. Limit of a redraw: {LIMIT_S:.0f} s.",
        harness.table(
            ["what", "seconds"],
            [
                [f"redraw {FIGURE}, the only job started", f"**{harness.spread(whole)}**"],
                ["of it, `snakemake` to the job", harness.spread(first)],
                ["`snakemake -n` at scale smoke", harness.spread(plan)],
                [f"the whole miniature ({jobs} jobs), `snakemake` to its first job", harness.spread(miniature_first)],
            ],
        ),
    )
    if max(whole) > LIMIT_S:
        raise RuntimeError(f"a redraw took {max(whole):.1f} s, more than {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main()
