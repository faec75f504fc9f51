"""gpu.py on a CPU: its sides are the same update, and its report names what ran out of memory."""

from argparse import Namespace
from dataclasses import asdict

import pytest
import torch.distributed as dist

import gpu
import harness

SIZES = {"rows": 4, "prompt_tokens": 5, "answer_tokens": 12, "micro_batch_tokens": 40, "repeats": 1}


@pytest.fixture(autouse=True)
def no_process_group_is_left():
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def case(side, space, precision):
    return gpu.Case(asdict(gpu.TINY), space, side, precision=precision, **SIZES)


@pytest.mark.parametrize("space", gpu.SPACES.values())
def test_the_sides_are_the_same_update(space):
    norms = {side: gpu.Pass(case(side, space, "float32")).update() for side in gpu.SIDES}
    assert norms["ours"] > 1e-3
    assert [norms[side] / norms["ours"] for side in gpu.SIDES] == pytest.approx([1.0] * 3, rel=1e-5)


def test_a_measurement_in_bfloat16_is_near():
    exact = gpu.Pass(case("plain", "pretrain", "float32"))
    exact.update()
    result = gpu.measure(case("ours", "pretrain", "bfloat16"))
    assert result["grad_norm"] == pytest.approx(exact.update(), rel=0.02)
    assert len(result["seconds"]) == 1 and 0 < result["held"] <= result["peak"]


def test_flops_of_a_case_by_hand():
    # NSR-PreRL: rows of 1 + 12 - 1 inputs, all of which predict; a layer has 64 x (2 x 64 + 2 x 32 + 3 x 96) weights
    layers = 4 * 12 * 2 * (2 * 64 * 480 + 4 * 64 * 12 / 2)
    assert case("ours", "pretrain", "float32").flops() == 3 * (layers + 4 * 12 * 2 * 64 * 500)


def test_the_report_says_what_ran_out_of_memory(tmp_path, monkeypatch):
    def run(measured):
        if measured.side == "plain":
            return {"failed": "out of memory"}
        return {"seconds": [measured.flops() / 2e12], "held": 1.0, "peak": 2.5, "grad_norm": 1.0}

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    options = Namespace(tflops=4.0, repeats=1, precision="float32")
    gpu.benchmark({"tiny": gpu.TINY}, [12], 48, options, run)
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    ours, plain, _ = (line for line in lines if line.startswith("| tiny | 12 | GRPO"))
    assert "2.00 (2.00 to 2.00) | 50.0 (50.0 to 50.0) | 2.50 | 1.50 |" in ours  # TFLOPs, of 4, GiB
    assert "| plain | out of memory |" in plain
    parity = [line for line in lines if line.startswith(r"| log P(y")]
    assert len(parity) == 3 and "not measured" in parity[2] and "vllm" in parity[2]  # .venv has none


def test_log_probs_are_those_of_plain_float32():
    mean, largest = gpu.parity(gpu.TINY, "float32")[0][3:]
    assert float(mean) < float(largest) < 1e-5
