"""Copies of the checkout to run snakemake in: no test touches a user's results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "config.yaml", "docs", "scales", "rules", "profiles", "slurm", "envs", "workflow_scripts"]


def copy_checkout(folder: Path) -> Path:
    """The workflow without results, in `folder`."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    return folder


def environment() -> dict[str, str]:
    """This test's environment with its own `python` and `snakemake` first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run snakemake in `folder`; stdout and stderr come together in `stdout`."""
    return subprocess.run(
        ["snakemake", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def planned_jobs(folder: Path, *arguments: str) -> dict[str, int]:
    """Rule -> number of jobs that `snakemake -n` would run; {} where there is nothing to do."""
    result = snakemake(folder, "-n", *arguments)
    assert result.returncode == 0, result.stdout
    if "Nothing to be done" in result.stdout:
        return {}
    table = result.stdout.split("Job stats:")[1].split("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def planned_runs(folder: Path, *arguments: str) -> set[str]:
    """'method/seed' of the training runs that `snakemake -n` would do."""
    output = snakemake(folder, "-n", *arguments).stdout
    found = re.findall(
        r"^rule train_policy:\n(?:    .*\n)*?    wildcards: model=.*, method=(.*), seed=(.*)$", output, re.M
    )
    return {f"{method}/{seed}" for method, seed in found}
