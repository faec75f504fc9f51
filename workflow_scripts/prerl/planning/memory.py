"""Memory of the jobs that hold a model, planned before any of them starts. Pure Python, no torch: read at every run.

Training keeps float32 weights, gradients and AdamW moments, divided over the GPUs of the job, and computes in bfloat16
on copies gathered layer by layer (on CPUs: float32, no copies). vLLM shares the GPUs: each holds a full bfloat16 copy
of the weights and a key-value cache while sampling, and nothing while training.

What autograd keeps per layer is counted on transformers' models by tests/unit/planning/test_memory.py. Terms marked D
are our estimates; none has been measured on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prerl.config.errors import ConfigError
from prerl.config.hardware import chosen_for, gpus_of
from prerl.config.methods import Method
from prerl.config.scales import deep_merge
from prerl.config.shapes import Shape, shape_of
from prerl.core.constants import CHUNK_LOGITS, GIB, HARNESS_TOKENS

CACHE_MARGIN_GIB = 2.0
"""D: left free by `rollouts.kv_cache_gib: auto`, for what the plan does not know."""

RUNTIME_GIB = 2.0
"""D: CUDA context, buffers of cuBLAS and NCCL, allocator fragmentation."""
VLLM_GIB = 3.0
"""D: vLLM's CUDA graphs and the activations of one scheduled step, beside weights, keys and values."""
LIBRARIES_GIB = 0.45
"""Resident memory of a CPU process once torch and transformers are imported."""


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one kind of job for one model, GiB on each of its GPUs (of its process if there are none).

    stages: stage -> part -> GiB; the parts of a stage are held together. capacity_gib: of one GPU, None if unknown.
    """

    rule: str
    model: str
    critic: bool
    gpus: int
    stages: dict[str, dict[str, float]]
    capacity_gib: float | None

    @property
    def peak_stage(self) -> str:
        """The stage that needs the most."""
        return max(self.stages, key=lambda stage: sum(self.stages[stage].values()))

    @property
    def peak_gib(self) -> float:
        """GiB of that stage."""
        return sum(self.stages[self.peak_stage].values())

    @property
    def left_gib(self) -> float | None:
        """GiB of a GPU left at the peak, negative if the job does not fit; None without a GPU."""
        return None if self.capacity_gib is None else self.capacity_gib - self.peak_gib

    @property
    def fits(self) -> bool:
        """Whether the job fits; True if no GPU is known."""
        return self.left_gib is None or self.left_gib >= 0


def saved_bytes(shape: Shape, bytes_per_number: int) -> int:
    """Bytes that autograd keeps for one token of one layer."""
    family = shape.family
    # RMSNorm: its input in float32, and what its weight multiplies; LayerNorm: its input
    multiplied = 4 if family.float32_norms else bytes_per_number
    norm = bytes_per_number if family.norm_numbers == 2 else 4 + multiplied
    heads = shape.attention_width + shape.key_value_width
    inputs = min(family.norms, 2) * shape.hidden_size  # of attention and MLP, or the one of both
    numbers = inputs + family.kept_heads * heads + family.kept_mlp * shape.intermediate_size
    normed = family.norms * shape.hidden_size + (heads if family.query_key_norms else 0)
    return bytes_per_number * numbers + norm * normed


def activation_bytes(shape: Shape, tokens: int, bytes_per_number: int, checkpointing: bool) -> float:
    """Peak bytes of a micro-batch's activations: of all layers, or with checkpointing their inputs and one layer.

    Added: the gradients inside the MLP of the current layer, and the last hidden states with their gradients.
    """
    saved = saved_bytes(shape, bytes_per_number)
    if checkpointing:
        saved += shape.num_hidden_layers * shape.hidden_size * bytes_per_number
    else:
        saved *= shape.num_hidden_layers
    passing = (shape.mlp_inputs + 1) * shape.intermediate_size + 2 * shape.hidden_size
    return tokens * (saved + passing * bytes_per_number + 2 * shape.hidden_size * (4 + bytes_per_number))


def logit_bytes(shape: Shape, tokens: int, on_gpu: bool) -> int:
    """Peak bytes of the log-softmax and its backward pass; in chunks, unless all logits are fewer than one chunk's.

    Forward: the chunk's float32 logits and logsumexp's temporary. Backward: its logits in float32 and, if that
    differs, in the weights' dtype; the head's gradient, summed in float32, and one chunk's part of it. Without
    chunks: the scaled logits, their softmax and the gradients of both terms.
    """
    chunk = CHUNK_LOGITS["cuda" if on_gpu else "cpu"]
    if tokens * shape.vocab_size <= chunk:
        return 20 * tokens * shape.vocab_size
    head = shape.vocab_size * shape.hidden_size
    return max(10 * chunk, 6 * chunk + 6 * head) if on_gpu else max(8 * chunk, 4 * chunk + 8 * head)


def held_bytes(shape: Shape, gpus: int, critic: bool) -> dict[str, float]:
    """Part -> bytes that training keeps from update to update on each GPU; PPO's critic doubles them."""
    numbers = (shape.parameters + (shape.critic_parameters if critic else 0)) / gpus
    return {"weights": 4 * numbers, "gradients": 4 * numbers, "moments": 8 * numbers}


def training_stages(
    shape: Shape, *, tokens: int, gpus: int, critic: bool, on_gpu: bool, checkpointing: bool
) -> dict[str, dict[str, float]]:
    """Stage -> part -> bytes on each GPU: the backward pass of a micro-batch of `tokens` tokens, and AdamW's step."""
    held = held_bytes(shape, gpus, critic)
    backward = dict(held)
    if on_gpu:
        # in bfloat16: two layers (the current, the next) and the embeddings; their gradients, also in float32
        backward["gathered"] = (2 + 2 + 4) * (2 * shape.layer_parameters + shape.embedding_parameters)
    backward["activations"] = activation_bytes(shape, tokens, 2 if on_gpu else 4, checkpointing)
    backward["logits"] = logit_bytes(shape, tokens, on_gpu)
    # the fused step on GPUs has none; on CPUs parameters are stepped one by one
    temporaries = 0 if on_gpu else 4 * shape.vocab_size * shape.hidden_size
    return {"backward": backward, "optimizer": {**held, "temporaries": temporaries}}


def row_tokens(block: Mapping, stage: str = "rollouts") -> int:
    """Most tokens of a prompt and its answer in `rollouts`, `validation` or `evaluation`."""
    return block["prompt"]["max_prompt_tokens"] + block[stage]["max_new_tokens"]


def _sampling(block: Mapping, shape: Shape, held: Mapping[str, float]) -> dict[str, float]:
    """Part -> bytes while the engine samples, with what the job holds; the embedded sampler shares weights."""
    if block["rollouts"]["engine"] != "vllm":
        rows = min(block["rollouts"]["batch_rows"], _rollouts_of_update(block))
        cache = rows * row_tokens(block, "evaluation") * shape.key_value_bytes(4)
        return {"weights": 4 * shape.parameters, **held, "keys and values": cache}
    parts = {**held, "vLLM weights": 2 * shape.parameters, "vLLM work": VLLM_GIB * GIB}
    cache_gib = block["rollouts"]["kv_cache_gib"]
    if cache_gib == "auto":
        rest_gib = block["hardware"]["gpu"]["memory_gib"] - RUNTIME_GIB - sum(parts.values()) / GIB
        cache_gib = max(math.floor(rest_gib - CACHE_MARGIN_GIB), 0)
    return {**parts, "keys and values": cache_gib * GIB}


def cache_gib(rule: str, model: str, block: Mapping, critic: bool) -> float:
    """vLLM's cache on each GPU of a rule's jobs: rollouts.kv_cache_gib, or with `auto` the rest of the card."""
    return memory_plan(rule, model, block, critic).stages["sampling"]["keys and values"]


def _rollouts_of_update(block: Mapping) -> int:
    return block["training"]["prompts_per_update"] * block["rollouts"]["samples_per_prompt"]


def _stages(rule: str, block: Mapping, shape: Shape, gpus: int, critic: bool) -> dict[str, dict[str, float]]:
    """Stage -> part -> bytes of a rule's job."""
    training = block["training"]
    if rule == "train_policy":
        tokens = max(training["micro_batch_tokens"], row_tokens(block))
        stages = training_stages(
            shape,
            tokens=tokens,
            gpus=max(gpus, 1),
            critic=critic,
            on_gpu=gpus > 0,
            checkpointing=training["activation_checkpointing"],
        )
        stages = {"sampling": _sampling(block, shape, held_bytes(shape, max(gpus, 1), critic)), **stages}
        half = training["precision"] == "bfloat16"
        if block["rollouts"]["engine"] == "transformers" and (half or gpus > 1):  # prerl.models.sharding.unsharded_copy
            copy = (2 if half else 4) * shape.parameters
            stages = {stage: {**parts, "sampler's copy": copy} for stage, parts in stages.items()}
        return stages
    if rule == "measure_gradient_alignment":
        # float32; the compared gradients are in host memory
        held: dict[str, float] = {"weights": 4 * shape.parameters, "gradients": 4 * shape.parameters}
        if gpus == 0:  # of y, of y given its x, of the rollout before
            held["compared gradients"] = 12 * shape.parameters
        held["activations"] = activation_bytes(shape, row_tokens(block), 4, checkpointing=gpus > 0)
        return {"gradient": {**held, "logits": logit_bytes(shape, row_tokens(block), gpus > 0)}}
    if rule == "measure_answers":
        tokens = max(training["micro_batch_tokens"], row_tokens(block, "evaluation"))
        held = {"weights": 4 * shape.parameters, "activations": activation_bytes(shape, tokens, 4, checkpointing=True)}
        return {"forward": {**held, "logits": logit_bytes(shape, tokens, gpus > 0)}}
    return {"sampling": _sampling(block, shape, {})}


MODEL_RULES = (
    "train_policy",
    "generate_samples",
    "evaluate_ood",
    "sample_rollouts",
    "measure_gradient_alignment",
    "measure_answers",
)
"""Rules whose jobs hold a policy in memory."""


def memory_plan(rule: str, model: str, block: Mapping, critic: bool = False) -> MemoryPlan:
    """The plan of one kind of job. block: the scale's block of config.yaml; critic: whether a method trains one."""
    shape = shape_of(block["models"][model])
    gpus = gpus_of(block, rule, model, critic)
    stages = {
        stage: {"libraries": (RUNTIME_GIB if gpus else LIBRARIES_GIB), **{k: v / GIB for k, v in parts.items()}}
        for stage, parts in _stages(rule, block, shape, gpus, critic).items()
    }
    card = block["hardware"].get("gpu")
    return MemoryPlan(rule, model, critic, gpus, stages, card["memory_gib"] if gpus and card else None)


def memory_plans(block: Mapping, methods: Mapping[str, Method]) -> Iterator[MemoryPlan]:
    """The plan of each rule that holds a model, for each model of the scale."""
    for model in block["models"]:
        for rule in MODEL_RULES:
            if rule != "evaluate_ood" or block["ood"]["tasks"]:
                yield memory_plan(rule, model, block)
            if rule == "train_policy" and trains_critic(methods):
                yield memory_plan(rule, model, block, critic=True)


def trains_critic(methods: Mapping[str, Method]) -> bool:
    """Whether one of the methods trains PPO's critic beside the policy."""
    return any(method.critic for method in methods.values())


def _remedies(plan: MemoryPlan, block: Mapping, critic: bool) -> list[str]:
    """Changes of a single key that make the job fit."""
    row = row_tokens(block)
    one_row = shape_of(block["models"][plan.model]).key_value_bytes() * row_tokens(block, "evaluation") / GIB
    cache = plan.stages.get("sampling", {}).get("keys and values", 0.0)
    changes: list[tuple[str, dict]] = [
        ("set training.activation_checkpointing: true", {"training": {"activation_checkpointing": True}}),
        (f"lower training.micro_batch_tokens to {row}", {"training": {"micro_batch_tokens": row}}),
    ]
    smaller = math.floor(cache + (plan.left_gib or 0))
    if smaller > one_row and block["rollouts"].get("kv_cache_gib") != "auto":
        changes.append((f"lower rollouts.kv_cache_gib to {smaller}", {"rollouts": {"kv_cache_gib": smaller}}))
    for gpus in (2, 4, 8, 16, 32, 64):
        if gpus > plan.gpus:
            change = {"resources": {plan.rule: {"gpu": gpus}}}
            changes.append((f"raise resources.{plan.rule}.gpu to {gpus}", change))
    suffice = [
        text for text, change in changes if memory_plan(plan.rule, plan.model, deep_merge(block, change), critic).fits
    ]
    more_gpus = [text for text in suffice if text.startswith("raise")]
    others = [text for text in suffice if text not in more_gpus]
    return [*others, *more_gpus[:1], f"use a card of {math.ceil(plan.peak_gib)} GiB (hardware.gpu.memory_gib)"]


def _cache_faults(block: Mapping, methods: Mapping[str, Method]) -> list[str]:
    """A cache too small for one answer, which vLLM would report only when its job runs."""
    if block["rollouts"]["engine"] != "vllm":
        return []
    tokens = max(row_tokens(block, stage) for stage in ("rollouts", "validation", "evaluation"))
    if block["ood"]["tasks"]:
        tokens = max(tokens, HARNESS_TOKENS)
    faults: dict[str, str] = {}
    for plan in memory_plans(block, methods):
        needed = shape_of(block["models"][plan.model]).key_value_bytes() * tokens / GIB
        held = plan.stages.get("sampling", {}).get("keys and values", math.inf)
        if held < needed and plan.fits:  # else the job itself is refused
            faults[plan.model] = (
                f"rollouts.kv_cache_gib: {block['rollouts']['kv_cache_gib']} gives {plan.rule} {held:g} GiB, less "
                f"than one prompt and answer of {plan.model}: {tokens} tokens need {needed:.1f} GiB; raise it"
            )
    return list(faults.values())


def check_memory(block: Mapping, methods: Mapping[str, Method]) -> None:
    """Raises ConfigError with every job that does not fit its GPUs, by how much, and what would make it fit."""
    faults = _cache_faults(block, methods)
    for plan in memory_plans(block, methods):
        if plan.fits:
            continue
        parts = ", ".join(f"{name} {gib:.1f}" for name, gib in plan.stages[plan.peak_stage].items())
        remedies = " or ".join(_remedies(plan, block, plan.critic))
        faults.append(
            f"resources.{plan.rule}: {chosen_for(plan.model, plan.critic)} needs {plan.peak_gib:.0f} GiB on each of "
            f"{plan.gpus} GPU(s) ({plan.peak_stage}: {parts}), {-(plan.left_gib or 0):.1f} more than "
            f"hardware.gpu.memory_gib {plan.capacity_gib}; {remedies}"
        )
    if faults:
        raise ConfigError("\n".join(faults))
