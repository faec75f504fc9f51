"""The memory plan: what autograd keeps counted exactly, peaks of real updates, and configs that cannot fit refused."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from prerl.config.errors import ConfigError
from prerl.config.methods import resolve_methods
from prerl.config.scales import deep_merge, read_config, read_files
from prerl.config.shapes import Shape, read_shape, shape_of
from prerl.core.constants import CHUNK_LOGITS, GIB
from prerl.core.constants import CHUNK_LOGITS as PLANNED_CHUNK_LOGITS
from prerl.planning.gpus import choose_gpus
from prerl.planning.memory import cache_gib, check_memory, memory_plan, memory_plans, saved_bytes, training_stages
from tiny import FAMILIES, family_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CONFIG = read_files()
# mostly activations; mostly weights, gradients and moments; mostly logits and the head's gradient
SHAPES = {
    "activations": (Shape(256, 768, 6, 8, 4, 32, 1000, True), 512),
    "weights": (Shape(512, 1536, 6, 8, 4, 64, 16_000, False), 64),
    "logits": (Shape(128, 256, 2, 4, 2, 32, 100_000, True), 512),
}


def block_of(scale, change=None):
    config = CONFIG | {"scale": scale}
    block = read_config(deep_merge(config, {"scales": {scale: change or {}}}))
    return choose_gpus(block, resolve_methods(block))


def test_chunks_are_the_log_softmaxs():
    assert PLANNED_CHUNK_LOGITS == CHUNK_LOGITS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layers_saved_bytes_are_autograds(family, dtype):
    sizes = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "sliding_window": None, "layer_types": None}

    def saved(layers, **change):
        keys = sizes | {"num_hidden_layers": layers} | change
        if family == "gemma3_text":
            keys |= {"sliding_window": 512, "layer_types": ["sliding_attention"] * layers}
        if "head_dim" in change:  # some families have no such key
            keys |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
        model = family_model(family, use_sliding_window=False, **keys).to(dtype)
        shape = read_shape(model.config.to_dict())
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no other takes its place
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.get_decoder()(input_ids=torch.zeros(1, 256, dtype=torch.long), use_cache=False)
        return sum(size for size, _ in kept.values()) / 256, saved_bytes(shape, dtype.itemsize)

    changes = [{}, {"intermediate_size": 192}]
    if family == "qwen3":
        changes += [{"hidden_size": 128}, {"num_attention_heads": 8}, {"head_dim": 32}]
    for change in changes:
        (two, _), (three, planned) = saved(2, **change), saved(3, **change)
        assert three - two == pytest.approx(planned, rel=0.04)  # without a number a head of each norm


UPDATES = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import torch
from accelerate import Accelerator
from transformers import Qwen3Config, Qwen3ForCausalLM
from prerl.training.updates import policy_update

def update(shape, answer, times):
    model = Qwen3ForCausalLM(Qwen3Config(**shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(0, shape["vocab_size"], (2, answer + 8)).tolist()
    for _ in range(times):  # the moments are there from the second on
        policy_update(
            model, optimizer, Accelerator(cpu=True), [row[:8] for row in ids], [row[8:] for row in ids],
            torch.tensor([1.0, -1.0]), torch.full((2,), 0.5 / answer, dtype=torch.double), clip=(0.2, 0.2),
            temperature=1.0, micro_batch_tokens=1 << 20, grad_clip=1.0,
        )

torch.set_num_threads(1)
shape, answer = json.loads(sys.argv[1])
update(shape | {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 32}, 4, 1)  # what the libraries take
def memory(key):  # KiB; getrusage's peak would begin with that of the process that started this one
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith(key))

before = memory("VmRSS")
update(shape, answer, 2)
print((memory("VmHWM") - before) * 1024)
"""


@pytest.mark.parametrize("name", SHAPES)
def test_the_plan_is_the_peak_of_an_update_on_a_cpu(name):
    """Within 15 %, each larger tensor in pages of its own: glibc's heap would keep some of what is freed."""
    shape, answer = SHAPES[name]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts"), "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", UPDATES, json.dumps([asdict(shape), answer])]
    measured = int(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)
    stages = training_stages(shape, tokens=2 * (answer + 7), gpus=1, critic=False, on_gpu=False, checkpointing=False)
    planned = max(sum(parts.values()) for parts in stages.values())
    assert planned == pytest.approx(measured, rel=0.15)


def test_training_by_hand():
    # 4B on 8 GPUs: 16 bytes a parameter over 8; hidden states of 36 layers in bfloat16 for each of 10,240 tokens
    shape = shape_of(block_of("paper")["models"]["qwen3-4b"])
    stages = training_stages(shape, tokens=10_240, gpus=8, critic=False, on_gpu=True, checkpointing=True)
    held = {part: stages["backward"][part] for part in ("weights", "gradients", "moments")}
    assert sum(held.values()) == 2 * shape.parameters
    assert stages["backward"]["activations"] > 36 * 10_240 * 2560 * 2
    with_critic = training_stages(shape, tokens=10_240, gpus=8, critic=True, on_gpu=True, checkpointing=True)
    assert with_critic["backward"]["moments"] == shape.parameters + shape.critic_parameters
    kept = training_stages(shape, tokens=10_240, gpus=8, critic=False, on_gpu=True, checkpointing=False)
    # without checkpointing every layer keeps what one did
    assert kept["backward"]["activations"] - stages["backward"]["activations"] == 10_240 * (
        35 * saved_bytes(shape, 2) - 36 * 2560 * 2
    )


def test_the_embedded_sampler_copies_sharded_weights():
    embedded = {"rollouts": {"engine": "transformers"}, "ood": {"tasks": {"bbh": None, "humaneval": None}}}
    plan = memory_plan("train_policy", "qwen3-0.6b", block_of("pilot", embedded))
    copies = {parts["sampler's copy"] for parts in plan.stages.values()}
    assert copies == {2 * shape_of(block_of("pilot")["models"]["qwen3-0.6b"]).parameters / GIB}


@pytest.mark.parametrize("scale", ["miniature", "quick", "smoke", "evening", "pilot", "paper"])
def test_every_scale_fits(scale):
    block = block_of(scale)
    check_memory(block, resolve_methods(block))
    plans = list(memory_plans(block, resolve_methods(block)))
    kinds = 5 + bool(block["ood"]["tasks"]) + ("ppo" in block["methods"])  # a critic is a kind of its own
    assert len(plans) == kinds * len(block["models"])
    assert all((plan.capacity_gib is None) == (scale in ("miniature", "quick", "smoke")) for plan in plans)


def test_the_rest_of_the_card_is_the_engines_cache():
    # 79 GiB less CUDA 2, Qwen3-8B in bfloat16 15.26, vLLM's work 3, margin 2: 56.7
    assert cache_gib("generate_samples", "qwen3-8b", block_of("paper"), critic=False) == 56
    assert cache_gib("generate_samples", "qwen3-8b", block_of("paper", {"rollouts": {"kv_cache_gib": 24}}), False) == 24
    training = cache_gib("train_policy", "qwen3-8b", block_of("paper"), critic=False)
    assert training < 56 - 16 * 8.19e9 / GIB / 4 + 1  # weights, gradients and moments of a quarter of the model


@pytest.mark.parametrize(
    ("scale", "change", "said"),
    [
        ("pilot", {"hardware": {"gpu": {"memory_gib": 24}}}, ["qwen3-1.7b", "use a card of"]),
        ("paper", {"resources": {"train_policy": {"gpu": 1}}}, ["qwen3-8b", "raise resources.train_policy.gpu to 4"]),
        ("paper", {"rollouts": {"kv_cache_gib": 78}}, ["sampling", "lower rollouts.kv_cache_gib to"]),
        ("paper", {"training": {"activation_checkpointing": False}}, ["training.activation_checkpointing: true"]),
        ("paper", {"training": {"micro_batch_tokens": 200_000}}, ["lower training.micro_batch_tokens to 9216"]),
        ("paper", {"rollouts": {"kv_cache_gib": 1}}, ["rollouts.kv_cache_gib: 1", "40960 tokens", "5.6 GiB"]),
    ],
)
def test_a_config_that_cannot_fit_is_refused_with_what_would(scale, change, said):
    block = block_of(scale, change)
    with pytest.raises(ConfigError) as refused:
        check_memory(block, resolve_methods(block))
    assert all(part in str(refused.value) for part in said), refused.value


def test_what_is_said_to_suffice_does():
    block = block_of("paper", {"rollouts": {"kv_cache_gib": 78}})
    with pytest.raises(ConfigError) as refused:
        check_memory(block, resolve_methods(block))
    line = next(line for line in str(refused.value).splitlines() if "train_policy: qwen3-8b with critic" in line)
    smaller = int(line.split("lower rollouts.kv_cache_gib to ")[1].split()[0])
    mended = deep_merge(block, {"rollouts": {"kv_cache_gib": smaller}})
    assert memory_plan("train_policy", "qwen3-8b", mended, critic=True).fits
    worse = deep_merge(block, {"rollouts": {"kv_cache_gib": smaller + 1}})
    assert not memory_plan("train_policy", "qwen3-8b", worse, critic=True).fits


def test_a_cpu_job_is_its_process():
    plan = memory_plan("train_policy", "miniature", block_of("miniature"))
    assert plan.left_gib is None and plan.fits
    assert 0.45 < plan.peak_gib < 0.7  # measured: 603 MB, docs/benchmarks.md
    assert (
        plan.stages["backward"]["weights"]
        == 4 * shape_of(block_of("miniature")["models"]["miniature"]).parameters / GIB
    )
