"""Host memory of the processes that hold a model on a GPU, planned before any of them starts. Pure Python, no torch.

Training reads each rank's rows of weights and moments (models/training_checkpoints.py), so nothing there grows with
the whole model but the weights of vLLM's sleeping engine. Terms marked D are our estimates; none has been measured on
a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from prerl.config.checks import questions_of
from prerl.config.errors import ConfigError
from prerl.config.hardware import chosen_for, gpus_of
from prerl.config.methods import Method
from prerl.config.shapes import shape_of
from prerl.core.constants import GIB, SHARD_ROWS
from prerl.planning.answers import answers_of
from prerl.planning.memory import memory_plans

PROCESS_GIB = 8.0
"""D: libraries, CUDA's context and vLLM's own buffers of one process."""
ANSWER_TOKEN_BYTES = 100
"""D: id, log-prob and text of a sampled token as Python objects."""


def host_parts(rule: str, model: str, block: Mapping, critic: bool) -> dict[str, float]:
    """Part -> GiB of one process of a rule's job at its peak."""
    shape, rollouts = shape_of(block["models"][model]), block["rollouts"]
    parts = {"process": PROCESS_GIB}
    if rule == "train_policy":
        if rollouts["engine"] == "vllm":
            parts["sleeping engine"] = 2 * shape.parameters / GIB
        largest = max(shape.parameters, shape.critic_parameters if critic else 0)
        parts["moments to be written"] = 8 * largest / gpus_of(block, rule, model, critic) / GIB
        rows = block["training"]["prompts_per_update"] * rollouts["samples_per_prompt"]
    elif rule == "measure_gradient_alignment":
        parts["weights and compared gradients"] = 16 * shape.parameters / GIB
        rows = 0
    elif rule == "measure_answers":
        parts["weights"] = 4 * shape.parameters / GIB
        questions = sum(questions_of(problems) for problems in block["data"]["benchmarks"].values())
        rows = questions * block["page"]["answers_per_question"]
    else:
        rows = SHARD_ROWS[rollouts["engine"]]
    mean = answers_of(block, model, "evaluation", block["evaluation"]["max_new_tokens"]).mean
    return parts | {"answers": rows * mean * ANSWER_TOKEN_BYTES / GIB}


def given_gib(rule: str, model: str, block: Mapping, critic: bool) -> float | None:
    """GiB that the job's `mem_mb` leaves each of its processes; None if the scale sets none.

    mem_mb is a node's, but with `gpu: auto` (then a mapping, see planning.gpus) it is a GPU's.
    """
    requested = block["resources"].get(rule, {})
    if "mem_mb" not in requested:
        return None
    gib = requested["mem_mb"] * 1e6 / GIB
    if isinstance(requested["gpu"], Mapping):
        return gib
    return gib * requested.get("nodes", 1) / gpus_of(block, rule, model, critic)


def host_plans(block: Mapping, methods: Mapping[str, Method]) -> dict[str, tuple[dict[str, float], float]]:
    """Job -> (its parts, what it is given) of each kind of job on GPUs whose memory the scale sets."""
    plans = {}
    for plan in memory_plans(block, methods):
        given = given_gib(plan.rule, plan.model, block, plan.critic) if plan.gpus else None
        if given is not None:
            name = f"{plan.rule} of {chosen_for(plan.model, plan.critic)}"
            plans[name] = host_parts(plan.rule, plan.model, block, plan.critic), given
    return plans


def check_host_memory(block: Mapping, methods: Mapping[str, Method]) -> None:
    """Raises ConfigError with every job whose `mem_mb` is less than its processes need."""
    faults = []
    for job, (parts, given) in host_plans(block, methods).items():
        needed = sum(parts.values())
        if needed > given:
            listed = ", ".join(f"{name} {gib:.1f}" for name, gib in parts.items())
            faults.append(
                f"resources.{job.split()[0]}.mem_mb: {job} needs {needed:.0f} GiB of host memory for each GPU "
                f"({listed}), and is given {given:.0f}; raise it by a factor of {needed / given:.2f}"
            )
    if faults:
        raise ConfigError("\n".join(faults))
