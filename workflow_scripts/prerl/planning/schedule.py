"""When the jobs of a plan run, and what they hold meanwhile, by the formula's seconds."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from prerl.config.methods import Method
from prerl.planning.costs import JobCost
from prerl.planning.dry_runs import PlannedJob

PRIORITIES = {
    "release_state": 4,
    "release_checkpoints": 3,
    "evaluate_ood": 2,
    "generate_samples": 2,
    "measure_answers": 2,
    "reincarnate_policy": 1,
}

SHARED = {  # what jobs of all seeds wait for: short, and until it is there no policy is evaluated and released
    "download_model",
    "import_model",
    "download_data",
    "download_ood",
    "prepare_data",
    "prepare_own_data",
    "prepare_miniature_data",
}


def priority(rule: str, wildcards: Mapping[str, str], block: Mapping, methods: Mapping[str, Method]) -> int:
    """Snakemake's priority of a job: what frees the disk first.

    What is SHARED before all else; evaluating and releasing before training, continuing a run before beginning one;
    and, where the scale keeps no checkpoints, one seed of a model after the other, as far as its jobs are ready.
    """
    groups = [(model, str(seed)) for model in block["models"] for seed in block["seeds"]]
    step = 1 + max(PRIORITIES.values())
    if rule in SHARED:
        return step * (1 + len(groups))
    own = PRIORITIES.get(rule, 0)
    if rule == "train_policy" and methods[wildcards["method"]].parent is not None:
        own = 1
    if block["training"]["keep_checkpoints"] or not {"model", "seed"} <= wildcards.keys():
        return own
    group = wildcards["model"], wildcards["seed"]
    left = len(groups) - groups.index(group) if group in groups else 0  # seeds that more_seeds adds come last
    return own + step * left


def elapsed(
    jobs: list[PlannedJob],
    costs: list[JobCost],
    seconds: list[float],
    cores: int,
    at_once: int,
) -> tuple[float, int, float]:
    """Seconds until the last job ends, most GPUs held and most GiB on disk.

    Each job starts when its inputs and enough cores are there, of several the one of highest priority. seconds: of each
    job; at_once: most jobs at a time. A job takes the cores, GPUs and priority of the plan.
    """
    producers = {path: index for index, job in enumerate(jobs) for path in job.outputs}
    waits_for = [{producers[path] for path in job.inputs if path in producers} for job in jobs]
    threads = [min(int(job.resources["cpus"]), cores) for job in jobs]
    gpus = [int(job.resources.get("gpu", 0)) for job in jobs]
    waiting = sorted(range(len(jobs)), key=lambda index: -jobs[index].priority)
    running: list[tuple[float, int]] = []  # (end, job), a heap
    done: set[int] = set()
    now, most, disk_gib, peak_gib = 0.0, 0, 0.0, 0.0
    while waiting or running:
        for index in [index for index in waiting if waits_for[index] <= done]:
            if threads[index] <= cores and len(running) < at_once:
                waiting.remove(index)
                cores -= threads[index]
                heapq.heappush(running, (now + seconds[index], index))
        most = max(most, sum(gpus[index] for _, index in running))
        held_gib = sum(costs[index].running_gib + max(costs[index].disk_gib, 0.0) for _, index in running)
        peak_gib = max(peak_gib, disk_gib + held_gib)
        now, ended = heapq.heappop(running)
        done.add(ended)
        disk_gib += costs[ended].disk_gib
        cores += threads[ended]
    return now, most, peak_gib
