"""`gpu: auto`: how many GPUs the jobs of a rule get for each model, by the formulas of memory, time and GPU-hours."""

from __future__ import annotations

from collections.abc import Mapping

from prerl.config.hardware import chosen_for
from prerl.config.methods import Method
from prerl.planning.costs import JobCost, job_cost
from prerl.planning.memory import memory_plan, trains_critic

SLACK = 1.02
"""GPU-hours that are as good as the least: of such numbers the largest is taken, whose jobs end first."""


def _with(block: Mapping, rule: str, gpus: object) -> dict:
    resources = block["resources"]
    return {**block, "resources": {**resources, rule: {**resources[rule], "gpu": gpus}}}


def job_costs(
    block: Mapping, methods: Mapping[str, Method], rule: str, model: str, critic: bool, gpus: int
) -> list[JobCost]:
    """Cost of a rule's job of each method, with PPO's critic or without, for one seed of a model, on so many GPUs."""
    names = [name for name, method in methods.items() if rule != "train_policy" or method.critic is critic]
    tried = _with(block, rule, gpus)
    return [job_cost(rule, {"model": model, "method": name, "seed": "0"}, tried, methods) for name in names]


def chosen(block: Mapping, methods: Mapping[str, Method], rule: str, model: str, critic: bool) -> int:
    """Of 1, 2, 4, … GPUs up to a node's: the fewest GPU-hours within the limits of memory and time.

    If none is within the time, the fastest that fits; if none fits, a node's (check_memory then says what to change).
    """
    hardware = block["hardware"]
    counts = [gpus for gpus in (2**i for i in range(12)) if gpus <= hardware["gpus_per_node"]]
    fitting = [gpus for gpus in counts if memory_plan(rule, model, _with(block, rule, gpus), critic).fits]
    if not fitting:
        return counts[-1]
    costs = {gpus: job_costs(block, methods, rule, model, critic, gpus) for gpus in fitting}
    longest_s = {gpus: max(cost.wall_s for cost in of_number) for gpus, of_number in costs.items()}
    in_time = [gpus for gpus in fitting if longest_s[gpus] <= 3600 * hardware["longest_job_h"]]
    if not in_time:
        return min(fitting, key=longest_s.__getitem__)
    hours = {gpus: sum(cost.gpu_hours for cost in costs[gpus]) for gpus in in_time}
    return max(gpus for gpus in in_time if hours[gpus] <= SLACK * min(hours.values()))


def choose_gpus(block: Mapping, methods: Mapping[str, Method]) -> dict:
    """The scale's block with a number of GPUs for each model in place of every `gpu: auto`."""
    resolved = dict(block)
    for rule, requested in block["resources"].items():
        if requested.get("gpu") == "auto":
            kinds = (False, True) if rule == "train_policy" and trains_critic(methods) else (False,)
            numbers = {
                chosen_for(model, critic): chosen(block, methods, rule, model, critic)
                for model in block["models"]
                for critic in kinds
            }
            resolved = _with(resolved, rule, numbers)
    return resolved
