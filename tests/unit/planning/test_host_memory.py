"""Host memory of a process by hand, and a job that is given too little."""

import pytest

from prerl.config.errors import ConfigError
from prerl.config.methods import resolve_methods
from prerl.config.scales import deep_merge, read_config, read_files
from prerl.core.constants import GIB
from prerl.planning.gpus import choose_gpus
from prerl.planning.host_memory import check_host_memory, given_gib, host_parts, host_plans

PARAMETERS = 8_190_735_360  # Qwen3-8B


def resolved(scale, change=None):
    block = read_config(deep_merge(read_files() | {"scale": scale}, {"scales": {scale: change or {}}}))
    methods = resolve_methods(block)
    return choose_gpus(block, methods), methods


def test_a_training_process_by_hand():
    # 8B on 4 GPUs: bfloat16 weights of the sleeping engine, and a quarter of two float32 moments
    block, _ = resolved("paper", {"resources": {"train_policy": {"gpu": 4, "mem_mb": 400_000}}})
    parts = host_parts("train_policy", "qwen3-8b", block, critic=False)
    assert parts["sleeping engine"] == parts["moments to be written"] == 2 * PARAMETERS / GIB
    assert given_gib("train_policy", "qwen3-8b", block, critic=False) == 100e9 / GIB
    embedded, _ = resolved("evening", {"rollouts": {"engine": "transformers"}})
    assert "sleeping engine" not in host_parts("train_policy", "qwen3-0.6b", embedded, critic=False)


def test_measuring_answers_reads_the_whole_model():
    block, _ = resolved("paper")
    assert host_parts("measure_answers", "qwen3-8b", block, critic=False)["weights"] == 4 * PARAMETERS / GIB


def test_more_gpus_need_less_each():
    blocks = [resolved("paper", {"resources": {"train_policy": {"gpu": gpus}}})[0] for gpus in (4, 8)]
    four, eight = (sum(host_parts("train_policy", "qwen3-8b", block, critic=False).values()) for block in blocks)
    assert four - eight == pytest.approx(PARAMETERS / GIB)


@pytest.mark.parametrize("scale", ["miniature", "evening", "pilot", "paper"])
def test_every_scale_gives_enough(scale):
    block, methods = resolved(scale)
    check_host_memory(block, methods)
    assert bool(host_plans(block, methods)) is (scale != "miniature")


def test_too_little_is_refused_by_how_much():
    block, methods = resolved("paper", {"resources": {"train_policy": {"mem_mb": 20_000}}})
    with pytest.raises(ConfigError, match="mem_mb: train_policy of qwen3-8b needs 39 GiB .* is given 19"):
        check_host_memory(block, methods)
