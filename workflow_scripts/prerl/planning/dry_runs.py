"""The plan that a dry run of Snakemake prints, job by job, for budget.py, preflight.py and show_progress.py."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from prerl.config.hardware import chosen_for
from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.core.errors import UserError
from prerl.planning.gpus import choose_gpus

RULE = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")
FIELD = re.compile(r"^    (input|output|benchmark|wildcards|priority|resources): (.*)$")
NEXT_KEY = re.compile(r", (?=\w+=)")


@dataclass
class PlannedJob:
    """One job: its rule, wildcards and resources by name, files, priority."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    benchmark: str = ""
    priority: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies it among the jobs of the workflow."""
        return self.rule, *self.wildcards.values()


def planned_jobs(dry_run: str) -> list[PlannedJob]:
    """The jobs in the output of `snakemake -n`, in its order: 'rule NAME:', then indented 'field: value' lines."""
    jobs: list[PlannedJob] = []
    for line in dry_run.splitlines():
        if found := RULE.match(line):
            jobs.append(PlannedJob(found[1]))
        elif found := FIELD.match(line):
            name, value = found.groups()
            if name in ("wildcards", "resources"):
                setattr(jobs[-1], name, dict(part.split("=", 1) for part in NEXT_KEY.split(value)))
            elif name == "benchmark":
                jobs[-1].benchmark = value
            elif name == "priority":
                jobs[-1].priority = int(value)
            else:
                setattr(jobs[-1], f"{name}s", tuple(value.split(", ")))
    return jobs


class DryRunError(UserError):
    """Snakemake could not make a plan; `said` is what it printed."""

    def __init__(self, said: str) -> None:
        super().__init__(f"no plan could be made:\n{said}")
        self.said = said


def dry_run(arguments: list[str], targets: list[str], *options: str) -> str:
    """What `snakemake -n` prints for `targets`, under the arguments of a command and further options.

    Submits and makes nothing, and ignores the lock of the snakemake that called it. Raises DryRunError.
    """
    command = ["snakemake", *arguments, "--dry-run", "--nolock", "--quiet", "host", *options, "--", *targets]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise DryRunError(done.stdout.strip())
    return done.stdout


def planned_block(configfiles: list[str], scale: str, jobs: list[PlannedJob]) -> dict:
    """The scale's block of the config files with the plan's GPUs by rule and model.

    They are those that `gpu: auto` chose, or what a profile's `set-resources` asks for.
    """
    block = read_config(read_files(configfiles) | {"scale": scale})
    methods = resolve_methods(block)
    block = choose_gpus(block, methods)
    resources = {rule: dict(requested) for rule, requested in block["resources"].items()}
    planned: dict[str, dict[str, int]] = {}
    for job in jobs:
        if "gpu" in job.resources:
            critic = job.rule == "train_policy" and methods[job.wildcards["method"]].critic
            key = chosen_for(job.wildcards["model"], critic)
            planned.setdefault(job.rule, {})[key] = int(job.resources["gpu"])
    for rule, by_model in planned.items():
        requested = resources.setdefault(rule, {"threads": 1})
        usual = requested.get("gpu", max(by_model.values()))
        keys = [chosen_for(model, critic) for model in block["models"] for critic in (False, True)]
        requested["gpu"] = {**(usual if isinstance(usual, Mapping) else dict.fromkeys(keys, usual)), **by_model}
    return {**block, "resources": resources}
