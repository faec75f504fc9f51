"""The sides of the benchmarks do the same work: the same gradient from the official order of an NSR-PreRL update."""

import copy
import importlib
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

import harness
from tiny import ARCHITECTURE
from training import compare_gradients, gradient, make_batch, naive_update, own_update
from training_job import GROUP, NEW_TOKENS, PROMPTS, own_trainer, prepare


@pytest.fixture(scope="module")
def batch():
    """Four prompts of eight samples, half of them careful; micro-batches of about eight rows."""
    made = make_batch(0.5, 4, ARCHITECTURE)
    return replace(made, settings=made.settings | {"micro_batch_tokens": 512, "grad_clip": math.inf})


def test_the_official_order_gives_our_gradient_loss_and_norm(batch):
    own, naive = copy.deepcopy(batch.model), copy.deepcopy(batch.model)
    ours = own_update(batch, own, torch.optim.SGD(own.parameters(), lr=0.0), Accelerator(cpu=True))
    theirs = naive_update(batch, naive, torch.optim.SGD(naive.parameters(), lr=0.0))
    assert 0 < ours["rows_trained"] < len(batch.responses)  # rows are skipped, and some are left
    assert gradient(naive).norm() > 0.05
    assert compare_gradients(batch) <= 1e-5
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)


def test_ratios_and_their_spread():
    assert harness.ratios([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]) == [2.0, 3.0, 1.0]
    assert harness.spread([1.0, 4.0, 2.0], 1) == "2.0 (1.0 to 4.0)"


def test_the_sides_take_turns():
    order = []
    sides = {name: lambda name=name: order.append(name) for name in "ab"}
    times = harness.in_turn(sides, repeats=3, warm_ups=1)
    assert "".join(order) == "ababbaab"
    assert [len(own) for own in times.values()] == [3, 3]


def test_the_timed_job_samples_every_token_and_trains_on_the_pattern(tmp_path):
    start, train, texts = prepare(tmp_path)
    metrics = own_trainer(tmp_path, start, train, PROMPTS // 2).step(1)
    assert len(texts) == PROMPTS
    assert metrics["tokens_sampled"] == PROMPTS * GROUP * NEW_TOKENS
    assert metrics["tokens_trained"] == metrics["tokens_sampled"] // 2


@pytest.mark.parametrize("script", ["grading", "interval_coverage", "memory", "redraw", "sampling", "two_jobs"])
def test_what_a_script_imports_is_there(script):
    """grpo.py and vllm_side.py need environments of their own."""
    importlib.import_module(script)
