"""Blocks `hardware` and `resources`: what jobs run on. Nothing here changes a result."""

from __future__ import annotations

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
    "evaluate_ood",
    "grade_samples",
    "count_thoughts",
    "aggregate_scores",
    "aggregate_ood",
)
"""Rules whose resources a scale may set; the others use the profile's defaults."""


@dataclass(frozen=True)
class Gpu:
    """The GPU, for planning memory and time. A job that cannot fit is refused before the first one starts."""

    name: str = key("any name")
    memory_gib: float = key("free on one GPU before a job, by nvidia-smi", POSITIVE, unit="GiB")
    tflops: float = key("dense bfloat16, data sheet: A100 312, H100 and H200 989", POSITIVE, unit="TFLOP/s")


@dataclass(frozen=True)
class Hardware:
    """Empty for CPUs."""

    gpu: Gpu | None = key("the GPU", optional=True, source="8 GPUs a job (A), model not stated")


@dataclass(frozen=True)
class JobResources:
    """What the jobs of one rule request."""

    threads: int | Literal["all"] = key("cores; `all`: those of the command, so that the job runs alone", COUNT)
    gpu: int | None = key("GPUs, of all nodes together", COUNT, optional=True)
    nodes: int | None = key("nodes; only train_policy may have several", COUNT, optional=True)
    mem_mb: int | None = key("host memory of a node", COUNT, optional=True, unit="MB")
    runtime_min: int | None = key("time limit", COUNT, optional=True, unit="min")
