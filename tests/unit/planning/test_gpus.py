"""`gpu: auto` at paper scale: the choice against all others, and what limits it."""

import pytest

from prerl.config.methods import resolve_methods
from prerl.config.scales import deep_merge, read_config, read_files
from prerl.planning.gpus import choose_gpus, job_costs
from prerl.planning.memory import check_memory, memory_plan

pytestmark = pytest.mark.slow


def chosen(change: dict) -> tuple[dict, dict, dict]:
    block = read_config(deep_merge(read_files() | {"scale": "paper"}, {"scales": {"paper": change}}))
    methods = resolve_methods(block)
    return block, methods, choose_gpus(block, methods)


@pytest.fixture(scope="module")
def paper():
    return chosen({})


@pytest.mark.parametrize("model", ["qwen3-4b", "qwen3-8b"])
def test_no_other_number_that_fits_costs_less(paper, model):
    block, methods, resolved = paper
    number = resolved["resources"]["train_policy"]["gpu"][model]
    costs = {}
    for gpus in (1, 2, 4, 8):
        tried = deep_merge(block, {"resources": {"train_policy": {"gpu": gpus}}})
        if memory_plan("train_policy", model, tried).fits:
            of_methods = job_costs(block, methods, "train_policy", model, False, gpus)
            if max(cost.wall_s for cost in of_methods) <= 48 * 3600:
                costs[gpus] = sum(cost.gpu_hours for cost in of_methods)
    assert 1 not in costs and len(costs) > 1  # memory leaves out one GPU, and there is a choice
    assert costs[number] <= 1.02 * min(costs.values())
    assert all(costs[gpus] > 1.02 * min(costs.values()) for gpus in costs if gpus > number)


def test_the_critic_gets_more_where_it_needs_more(paper):
    numbers = paper[2]["resources"]["train_policy"]["gpu"]
    assert numbers["qwen3-8b with critic"] > numbers["qwen3-8b"]
    check_memory(paper[2], paper[1])


def test_less_time_takes_more_gpus(paper):
    usual = paper[2]["resources"]["train_policy"]["gpu"]["qwen3-4b"]
    brisk = chosen({"hardware": {"longest_job_h": 36}})[2]["resources"]["train_policy"]["gpu"]["qwen3-4b"]
    hasty = chosen({"hardware": {"longest_job_h": 1}})[2]["resources"]["train_policy"]["gpu"]["qwen3-4b"]
    assert usual < brisk < hasty == 8


def test_a_number_stands(paper):
    resolved = chosen({"resources": {"train_policy": {"gpu": 8}}})[2]
    assert resolved["resources"]["train_policy"]["gpu"] == 8
    assert resolved["resources"]["sample_rollouts"]["gpu"] == 1
