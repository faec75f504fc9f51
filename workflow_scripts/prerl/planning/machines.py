"""How fast a job's core or GPU computes.

A constant marked D is our assumption, M was measured in a run of the miniature (two cores, docs/benchmarks.md), S is
from the vendor's data sheet, P from a published measurement. No GPU constant has been measured by us;
docs/benchmarks.md compares the formula with what others have measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Speed of what a job computes on: FLOPs a second in training and in sampling, with utilisation, of one device.

    bandwidth: bytes a second that decoding reads, infinite where the FLOPs cover it. Beside that step_s: one decoding
    step; token_s: a sampled token. start_s: libraries; engine_s: the sampler's start. row_s: one pass over a single
    row. update_s: an update's fixed part, beside sync_s for each parameter (the sampler's weights, its sleep and
    waking).
    """

    training: float
    sampling: float
    float32: float
    bandwidth: float
    start_s: float
    engine_s: float
    step_s: float
    token_s: float
    row_s: float
    update_s: float
    sync_s: float


CPU = Machine(
    training=4.5e10,
    sampling=2.0e10,
    float32=4.5e10,
    bandwidth=math.inf,
    start_s=5,
    engine_s=0,
    step_s=1.6e-3,
    token_s=0,
    row_s=6e-3,
    update_s=0.02,
    sync_s=0,
)
"""One core of the machine of docs/benchmarks.md (M)."""
FLOAT32_SHARE = 1 / 15
"""float32 without tensor cores over dense bfloat16, H100 (S: 67 and 989 TFLOPs)."""
# D. P: torchtitan's Llama 3 8B uses 0.30 of 8 H100s without recomputation (5,762 tokens a second and GPU, its
# benchmarks/llama3_h100_202412_torchtitan.md); ours counts the recomputed pass as work
TRAINING_UTILISATION = 0.35
# D, these four slower by 5 to 25 % than P: vLLM's decoding of Qwen3-8B on an H100 (ml-energy/leaderboard,
# public/data/models/Qwen__Qwen3-8B__*.json), which tests/unit/planning/test_costs.py holds
SAMPLING_UTILISATION = 0.5
BANDWIDTH_UTILISATION = 0.8
STEP_S = {"vllm": 0.002, "transformers": 0.03}  # the embedded sampler starts every kernel of a step from Python
TOKEN_S = 4e-5  # scheduler, sampling with a seed for each row, log-probs


def gpu_machine(tflops: float, bandwidth_tb_s: float, engine: str) -> Machine:
    """A card of `tflops` dense bfloat16 TFLOPs and `bandwidth_tb_s` TB/s; the seconds are D."""
    peak = tflops * 1e12
    training = TRAINING_UTILISATION * peak
    return Machine(
        training=training,
        sampling=SAMPLING_UTILISATION * peak,
        float32=FLOAT32_SHARE * training,
        bandwidth=BANDWIDTH_UTILISATION * bandwidth_tb_s * 1e12,
        start_s=20,
        engine_s=40,
        step_s=STEP_S[engine],
        token_s=TOKEN_S,
        row_s=0.5,
        update_s=3,
        sync_s=2e-9,
    )
