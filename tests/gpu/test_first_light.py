"""first_light.py on a CPU: tiny shapes, stages that hang or fail; how the GPU's attention is called."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from checkouts import ROOT, copy_checkout, environment
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


def test_the_report_of_a_measured_pass_changes_the_page_and_the_plan(tmp_path):
    folder = copy_checkout(tmp_path / "workflow")
    for file in ("tests/gpu/report.py", "docs/benchmarks.md"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    fast = {"stage": "fast", "name": "4b, 4096 tokens, GRPO, ours", "tokens_per_s": 10000.0, "tflops": 346.15}
    fast |= {"utilisation": 0.7, "peak_gib": 61.2}
    sampler = {"stage": "sampler", "name": "256 rows", "tokens_per_s": 25600.0, "step_s": 0.01, "peak_gib": 9.0}
    record = {
        "command": "first_light.py", "date": "2026-01-01", "commit": "abc", "card": "NVIDIA H100, 80 GiB, 580",
        "python": "3.12", "versions": {"torch": "2.11.0"}, "stages": {"fast": {"state": "done", "seconds": 9.0}},
        "results": [fast, sampler, {"stage": "right", "name": "it", "ok": False}],
    }  # fmt: skip
    (tmp_path / "record.json").write_text(json.dumps(record))
    page, costs = folder / "docs/benchmarks.md", folder / "workflow_scripts/prerl/planning/machines.py"
    before = costs.read_text()
    command = [sys.executable, folder / "tests/gpu/report.py", tmp_path / "record.json"]
    options = {"check": True, "env": environment(), "cwd": folder}
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options).stdout
    assert costs.read_text() == before and printed.strip() not in page.read_text()
    subprocess.run([*command, "--write"], **options)
    assert "TRAINING_UTILISATION = 0.70  # M: NVIDIA H100, 2026-01-01, 4B\n" in costs.read_text()
    assert 'STEP_S = {"vllm": 0.002, "transformers": 0.01}  # the latter M: NVIDIA H100, 2026' in costs.read_text()
    assert printed.strip() in page.read_text()
    assert "0 of 1 checks are right." in printed and "- **wrong**: right, it" in printed
    assert "| 4b, 4096 tokens, GRPO, ours | 10,000 | 346 | 70 | 61.2 |" in printed
    pilot = re.search(r"\(TRAINING_UTILISATION 0.7, STEP_S 0.01\): pilot ([\d.]+) → ([\d.]+) GPU-hours", printed)
    assert pilot and float(pilot[2]) < float(pilot[1])


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
    stages = ("--stages", "right", "miniature", "sampler", "--shapes", "qwen3")  # one after another, as on a GPU
    code, record = first_light(tmp_path / "record.json", "--program", program, "--limit-s", 8, *stages)
    assert code == 1 and time.monotonic() - began < 20
    states = {stage: value["state"] for stage, value in record["stages"].items()}
    assert states == {"right": "stopped", "miniature": "failed", "sampler": "done"}
    assert [result["stage"] for result in record["results"]] == ["right", "miniature", "sampler"]
    assert "RuntimeError: no light" in record["stages"]["miniature"]["log"]
    left = Path(f"/proc/{record['stages']['right']['log'][0]}")  # what the stage started ends with it
    assert not left.exists() or "\nState:\tZ" in (left / "status").read_text()


@pytest.mark.parametrize("key_heads", [8, 4])
@pytest.mark.parametrize("shared", [[], [(0, 5), (1, 3)]])
def test_the_gpus_attention_is_called_as_torch_has_it(key_heads, shared, monkeypatch):
    """On the meta device, which needs no GPU: arguments, shapes and dtypes of the variable-length kernel."""
    monkeypatch.setattr(packing, "fits_flash_attention", lambda query: True)
    layout = packing.PackedLayout([30, 10], shared, torch.device("meta"))
    tokens = 40 + sum(length for _, length in shared)
    query = torch.empty(1, 8, tokens, 128, device="meta", dtype=torch.bfloat16)
    key, value = (torch.empty(1, key_heads, tokens, 128, device="meta", dtype=torch.bfloat16) for _ in range(2))
    output, _ = packing.packed_attention(torch.nn.Module(), query, key, value, None, layout, scaling=0.1)
    assert output.shape == (1, tokens, 8, 128) and output.dtype == torch.bfloat16
