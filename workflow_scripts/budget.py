"""Table of what is left to do: jobs, GPU-hours, wall time and disk of every stage (rule budget). Runs nothing."""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prerl.config.methods import resolve_methods, sweep_methods
from prerl.core.errors import run_main
from prerl.core.files import read_table
from prerl.planning.costs import JobCost, job_cost
from prerl.planning.dry_runs import PlannedJob, dry_run, planned_block, planned_jobs
from prerl.planning.schedule import elapsed
from prerl.publishing.claims import CLAIMS

CPU_SPEED = "cores as fast as those of docs/benchmarks.md"
GPU_SPEED = "cards as config.yaml, hardware.gpu names them, at an assumed share of their speed; never run on a GPU"


@dataclass(frozen=True)
class Stage:
    """The remaining jobs of one rule. gib: what they leave on disk; measured: jobs whose time is known."""

    rule: str
    jobs: int
    gpus: int
    gpu_hours: float
    longest_s: float
    total_s: float
    gib: float
    measured: int


def seconds_measured(job: PlannedJob) -> float | None:
    """Seconds that a job took, by its benchmark file; None if it has not run.

    Snakemake times only the last attempt. A training run in slices took longer: at least as long as its updates.
    """
    if not Path(job.benchmark).is_file():
        return None
    with open(job.benchmark, encoding="utf-8") as stream:
        seconds = float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    for output in job.outputs:
        if job.rule == "train_policy" and output.endswith("/metrics.parquet") and Path(output).is_file():
            updates = read_table(Path(output), ["seconds_total"])["seconds_total"].to_pylist()
            seconds = max(seconds, sum(updates))
    return seconds


def corrections(jobs: list[PlannedJob], formula: Mapping[tuple, JobCost]) -> dict[str, tuple[float, int]]:
    """Rule -> measured seconds of finished jobs over those of the formula, and the number of these jobs."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        seconds = seconds_measured(job) if job.benchmark else None
        if seconds is not None:
            pairs.setdefault(job.rule, []).append((seconds, formula[job.key].wall_s))
    return {
        rule: (sum(measured for measured, _ in times) / sum(planned for _, planned in times), len(times))
        for rule, times in pairs.items()
    }


def stages_of(
    left: list[PlannedJob], formula: Mapping[tuple, JobCost], corrected: Mapping[str, tuple[float, int]]
) -> list[Stage]:
    """A row for each rule with jobs left, by GPU-hours, then by time, descending."""
    stages = []
    for rule in dict.fromkeys(job.rule for job in left):
        costs = [formula[job.key] for job in left if job.rule == rule]
        factor, measured = corrected.get(rule, (1.0, 0))
        times = [factor * cost.wall_s for cost in costs]
        gpu_hours = factor * sum(cost.gpu_hours for cost in costs)
        gib = sum(cost.disk_gib for cost in costs)
        gpus = max(cost.gpus for cost in costs)
        stages.append(Stage(rule, len(costs), gpus, gpu_hours, max(times), sum(times), gib, measured))
    return sorted(stages, key=lambda stage: (-stage.gpu_hours, -stage.total_s))


def duration(seconds: float) -> str:
    """duration(50) == '50 s', duration(600) == '10 min', duration(9000) == '2.5 h', duration(345600) == '4.0 days'."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def size(gib: float) -> str:
    """size(0.25) == '0.25 GiB', size(2048) == '2.0 TiB'."""
    return f"{gib:.2f} GiB" if gib < 1024 else f"{gib / 1024:.1f} TiB"


def columns_of(lines: list[list[str]]) -> str:
    """Lines of equal columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)


def table(stages: list[Stage]) -> str:
    """The rows and their sum, in columns."""
    lines = [["stage", "jobs", "GPUs", "GPU-hours", "longest job", "one by one", "disk", "time from"]]
    total = Stage(
        "all",
        sum(stage.jobs for stage in stages),
        max(stage.gpus for stage in stages),
        sum(stage.gpu_hours for stage in stages),
        max(stage.longest_s for stage in stages),
        sum(stage.total_s for stage in stages),
        sum(stage.gib for stage in stages),
        sum(stage.measured for stage in stages),
    )
    for stage in [*stages, total]:
        numbers = [str(stage.jobs), str(stage.gpus), f"{stage.gpu_hours:.1f}"]
        times = [duration(stage.longest_s), duration(stage.total_s)]
        source = f"{stage.measured} measured" if stage.measured else "formula"
        lines.append([stage.rule, *numbers, *times, size(stage.gib), source])
    return columns_of(lines)


READ = {
    "alignment": {"measure_gradient_alignment"},
    "answers": {"grade_samples", "count_thoughts"},
    "ood": {"grade_samples", "evaluate_ood"},
    "curves": {"train_policy"},
}
"""Rules whose outputs a claim reads, by `Claim.reads`."""


def needed(jobs: list[PlannedJob], wanted: Iterable[int]) -> set[int]:
    """Indices of the jobs `wanted` and of all that they need."""
    producers = {path: index for index, job in enumerate(jobs) for path in job.outputs}
    found: set[int] = set()
    left = list(wanted)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left += [producers[path] for path in jobs[index].inputs if path in producers]
    return found


def products(jobs: list[PlannedJob], block: Mapping) -> dict[str, set[int]]:
    """Figure, table or claim -> all its jobs. A claim about methods that are not run is left out.

    block: the scale's. The sweep's methods belong to the claim about it.
    """
    made = {
        job.rule: needed(jobs, [index]) for index, job in enumerate(jobs) if job.rule.startswith(("figure_", "table_"))
    }
    models, sweep = list(block["models"]), {name for name, _ in sweep_methods(block).values()}
    parts = {method.part_of: name for name, method in resolve_methods(block).items() if method.part_of}
    for claim in CLAIMS:
        methods = {*claim.methods, *(sweep if claim.name == "warmup_steps" else ())}
        if claim.early:
            methods = {parts.get(method, method) for method in methods}
        if claim.model_index >= len(models):
            continue
        if claim.reads == "ood" and block["ood"]["tasks"] and not any(job.rule == "evaluate_ood" for job in jobs):
            continue
        wanted = [
            index
            for index, job in enumerate(jobs)
            if job.rule in READ[claim.reads]
            and job.wildcards["model"] == models[claim.model_index]
            and (claim.reads == "alignment" or job.wildcards["method"] in methods)
        ]
        there = {jobs[index].wildcards.get("method") for index in wanted}
        if wanted and (claim.reads == "alignment" or methods <= there):
            made[f"claim {claim.name}"] = needed(jobs, wanted)
    return made


def price_table(
    jobs: list[PlannedJob],
    costs: Mapping[tuple, JobCost],
    factors: Mapping[str, float],
    missing: set[tuple],
    block: Mapping,
) -> str:
    """What each figure, table and claim costs alone, and adds to what is done; factors: of the formula, by rule."""

    def price(chosen: Iterable[int]) -> tuple[float, float]:
        pairs = [(costs[jobs[index].key], factors.get(jobs[index].rule, 1.0)) for index in chosen]
        gpu_hours = sum(cost.gpu_hours * factor for cost, factor in pairs)
        return gpu_hours, sum(cost.wall_s * factor for cost, factor in pairs)

    lines = [["alone", "jobs", "GPU-hours", "one by one", "jobs left", "GPU-hours", "one by one"]]
    for name, chosen in products(jobs, block).items():
        left = [index for index in chosen if jobs[index].key in missing]
        columns = []
        for part in (chosen, left):
            gpu_hours, seconds = price(part)
            columns += [str(len(part)), f"{gpu_hours:.1f}", duration(seconds)]
        lines.append([name, *columns])
    return columns_of(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", type=json.loads, required=True, help="JSON: preview_settings of rules/preview.smk"
    )
    settings = parser.parse_args().settings
    targets = os.environ.get("TARGETS", "all").split()
    every = [job for job in planned_jobs(dry_run(settings["arguments"], targets, "--forceall")) if job.outputs]
    missing = {job.key for job in planned_jobs(dry_run(settings["arguments"], targets))}
    left = [job for job in every if job.key in missing]
    print(f"{' '.join(targets)} at scale {settings['scale']}: {len(every) - len(left)} of {len(every)} jobs are done.")
    if not left:
        return
    block = planned_block(settings["configfiles"], settings["scale"], every)
    methods = resolve_methods(block)
    formula = {job.key: job_cost(job.rule, job.wildcards, block, methods) for job in every}
    corrected = corrections(every, formula)
    print(f"\n{table(stages_of(left, formula, corrected))}\n")
    factors = {rule: factor for rule, (factor, _) in corrected.items()}
    if prices := price_table(every, formula, factors, missing, block):
        print(f"{prices}\n")
    seconds = [formula[job.key].wall_s * corrected.get(job.rule, (1.0, 0))[0] for job in left]
    costs = [formula[job.key] for job in left]
    end, gpus, peak_gib = elapsed(left, costs, seconds, settings["cores"], settings["jobs"] or len(left))
    limit = f"{settings['jobs']} jobs" if settings["jobs"] else f"jobs of {settings['cores']} cores"
    needed = f", on up to {gpus} GPUs" if gpus else ""
    print(
        f"With {limit} at a time, each as soon as its inputs exist, no waiting in a queue{needed}: {duration(end)}, "
        f"at most {size(peak_gib)} on disk at a time."
    )
    speed = GPU_SPEED if any(cost.gpus for cost in formula.values()) else CPU_SPEED
    print(f"formula: workflow_scripts/prerl/planning/costs.py, for {speed}.")
    if corrected:
        print("N measured: the formula, scaled by how much longer N jobs of the stage have taken here.")


if __name__ == "__main__":
    run_main(main)
