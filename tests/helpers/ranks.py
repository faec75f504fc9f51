"""train_policy.py in two processes over gloo, and the equality of two runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from prerl.models.checkpoints import verify
from tiny_training import metrics

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


def launch(shop, name, settings):
    """The finished launch_ranks.py of two train_policy.py, for the run `name`."""
    arguments = ["--settings", json.dumps(settings), "--code", shop.code, "--start", shop.base]
    arguments += ["--train", shop.train, "--validation", *shop.validation]
    arguments += ["--state", shop.folder / name / "state", "--output", shop.folder / name / "output"]
    command = [sys.executable, SCRIPTS / "launch_ranks.py", "--processes", "2", "--", SCRIPTS / "train_policy.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(part) for part in (*command, *arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


def launched(shop, name, settings):
    """The output folder of a run by two processes."""
    done = launch(shop, name, settings)
    assert done.returncode == 0, done.stderr[-3000:]
    return shop.folder / name / "output"


def tensors_of(folder):
    """All weights and moments of a checkpoint, however many files they lie in."""
    files = sorted(verify(folder / "manifest.json").glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}, files


def assert_equal_runs(one, two, updates=(1, 2, 3)):
    """Moments after the first update are (1 - beta) times the gradient; weights go through Adam's division."""
    for row, other in zip(metrics(one), metrics(two), strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            equal = other[name] if isinstance(value, str) else pytest.approx(other[name], abs=1e-5, rel=1e-5)
            assert value == equal, name
    assert pq.read_table(one / "validation.parquet") == pq.read_table(two / "validation.parquet")
    for update in updates:
        ours, other = (tensors_of(output / f"checkpoints/update{update:06d}")[0] for output in (one, two))
        assert ours.keys() == other.keys()
        assert max((ours[name] - other[name]).abs().max().item() for name in ours) <= 1e-6
