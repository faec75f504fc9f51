"""first_light.py on a CPU: tiny shapes, stages that hang or fail; how the GPU's attention is called."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prerl.models import packing

FOLDER = Path(__file__).parent


def first_light(output: Path, *options: object) -> tuple[int, dict]:
    """Exit status and JSON of a run that sees no GPU."""
    command = [sys.executable, FOLDER / "first_light.py", "--shapes", "tiny", "--output", output, *options]
    done = subprocess.run(
        list(map(str, command)), env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    )
    return done.returncode, json.loads(output.read_text())


def test_every_stage_runs_and_all_numbers_are_right(tmp_path):
    code, record = first_light(tmp_path / "record.json")
    assert {stage: value["state"] for stage, value in record["stages"].items()} == dict.fromkeys(
        ("right", "miniature", "fast", "profile", "sampler"), "done"
    ), json.dumps(record["stages"], indent=1)
    assert code == 0
    wrong = [result for result in record["results"] if result.get("ok") is False]
    assert not wrong
    names = {(result["stage"], result["name"]) for result in record["results"]}
    assert ("right", "gradient, Llama, NSR-PreRL, packed bfloat16") in names
    assert ("right", "checkpoint: device, CPU, device") in names
    assert ("miniature", "miniature: GRPO after the hand-over") in names
    assert torch.__version__.startswith(record["versions"]["torch"])


PROGRAM = """
import subprocess, sys, time
stage = sys.argv[1]
print("result", '{"name": "first"}', flush=True)
if stage == "right":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    time.sleep(600)
if stage == "miniature":
    raise RuntimeError("no light")
"""


def test_a_stage_that_hangs_or_fails_costs_its_own_results_only(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    began = time.monotonic()
    stages = ("--stages", "right", "miniature", "sampler")
    code, record = first_light(tmp_path / "record.json", "--program", program, "--limit-s", 8, *stages)
    assert code == 1 and time.monotonic() - began < 20
    states = {stage: value["state"] for stage, value in record["stages"].items()}
    assert states == {"right": "stopped", "miniature": "failed", "sampler": "done"}
    assert [result["stage"] for result in record["results"]] == ["right", "miniature", "sampler"]
    assert "RuntimeError: no light" in record["stages"]["miniature"]["log"]
    left = Path(f"/proc/{record['stages']['right']['log'][0]}")  # what the stage started ends with it
    assert not left.exists() or "\nState:\tZ" in (left / "status").read_text()


@pytest.mark.parametrize("key_heads", [8, 4])
def test_the_gpus_attention_is_called_as_torch_has_it(key_heads, monkeypatch):
    """On the meta device, which needs no GPU: arguments, shapes and dtypes of the variable-length kernel."""
    monkeypatch.setattr(packing, "fits_flash_attention", lambda query: True)
    query = torch.empty(1, 8, 40, 128, device="meta", dtype=torch.bfloat16)
    key, value = (torch.empty(1, key_heads, 40, 128, device="meta", dtype=torch.bfloat16) for _ in range(2))
    bounds = torch.empty(3, device="meta", dtype=torch.int32)
    output, _ = packing.packed_attention(torch.nn.Module(), query, key, value, None, bounds, 30, scaling=0.1)
    assert output.shape == (1, 40, 8, 128) and output.dtype == torch.bfloat16
