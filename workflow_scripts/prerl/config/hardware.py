"""Blocks `hardware` and `resources`: what jobs run on. Nothing here changes a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prerl.config.key import COUNT, POSITIVE, key

RULES = (
    "pretrain_miniature_model",
    "sample_rollouts",
    "measure_gradient_alignment",
    "train_policy",
    "reincarnate_policy",
    "generate_samples",
    "measure_answers",
    "evaluate_ood",
    "grade_samples",
    "count_thoughts",
    "aggregate_scores",
    "aggregate_ood",
)
"""Rules whose resources a scale may set; the others use the profile's defaults."""
MEASURING = ("measure_gradient_alignment", "measure_answers")
"""Those that run a model without a sampling engine, on one GPU at most."""


@dataclass(frozen=True)
class Gpu:
    """The GPU, for planning memory and time. A job that cannot fit is refused before the first one starts."""

    name: str = key("any name")
    memory_gib: float = key("free on one GPU before a job, by nvidia-smi", POSITIVE, unit="GiB")
    tflops: float = key("dense bfloat16, data sheet: A100 312, H100 and H200 989", POSITIVE, unit="TFLOP/s")
    bandwidth_tb_s: float = key(
        "of its memory, data sheet: RTX 4090 1.01, A100 80 GB 2.04, H100 3.35, H200 4.8", POSITIVE, unit="TB/s"
    )


@dataclass(frozen=True)
class Hardware:
    """Empty for CPUs."""

    gpu: Gpu | None = key("the GPU", optional=True, source="8 GPUs a job (A), model not stated")
    gpus_per_node: int | None = key("most GPUs that `gpu: auto` gives a job", COUNT, optional=True)
    longest_job_h: float | None = key(
        "longest job that `gpu: auto` plans, by formula", POSITIVE, optional=True, unit="h"
    )


@dataclass(frozen=True)
class JobResources:
    """What the jobs of one rule request."""

    threads: int | Literal["all"] = key(
        "cores; `all`: those of the command, so that the job runs alone; with `gpu: auto`, for each GPU", COUNT
    )
    gpu: int | Literal["auto"] | None = key(
        "GPUs, of all nodes together; `auto`: for each model the number of least GPU-hours by formula whose memory "
        "fits and whose longest job is within hardware.longest_job_h",
        COUNT,
        optional=True,
    )
    nodes: int | None = key("nodes; only train_policy may have several", COUNT, optional=True)
    mem_mb: int | None = key("host memory of a node; of a GPU with `gpu: auto`", COUNT, optional=True, unit="MB")
    runtime_min: int | None = key("time limit", COUNT, optional=True, unit="min")


def gpus_of(block: Mapping, rule: str, model: str, critic: bool = False) -> int:
    """GPUs of a rule's jobs with a model, and with PPO's critic or without; 0 on CPUs.

    block: the scale's, after planning.gpus.choose_gpus.
    """
    requested = block["resources"].get(rule, {}).get("gpu", 0)
    return requested[chosen_for(model, critic)] if isinstance(requested, Mapping) else requested


def chosen_for(model: str, critic: bool) -> str:
    """Key of a number that was chosen: PPO's critic doubles what training holds."""
    return f"{model} with critic" if critic else model
