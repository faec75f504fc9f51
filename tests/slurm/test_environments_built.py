"""The job environments as Snakemake and conda built them: each holds its lock, no more, and imports what it is for."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from cpu_build import pins

IMPORTS = {
    "train": "accelerate, math_verify, pandas, pyarrow, safetensors, tokenizers, torch, transformers, vllm",
    "ood": "accelerate, datasets, evaluate, lm_eval, pandas, pyarrow, torch, transformers, vllm",
    "evaluate": "math_verify, pandas, pyarrow, tokenizers, transformers",
    "figures": "matplotlib.pyplot, pandas, pyarrow, tabulate",
}


def prefix(checkout, name: str) -> Path:
    """Folder of a built environment: the one whose copy of the file is the checkout's."""
    text = (checkout.folder / f"envs/{name}.yaml").read_text()
    (file,) = [file for file in (checkout.site.folder / "conda").glob("*.yaml") if file.read_text() == text]
    return file.with_suffix("")


@pytest.mark.parametrize("name", IMPORTS)
def test_an_environment_is_its_lock(shop, name):
    python = prefix(shop, name) / "bin/python"
    listed = json.loads(subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True).stdout)
    lines = yaml.safe_load((shop.folder / f"envs/{name}.yaml").read_text())["dependencies"][-1]["pip"]
    installed = {package["name"].lower().replace("_", "-").replace(".", "-"): package["version"] for package in listed}
    installed.pop("pip")
    assert {name: version.split("+")[0] for name, version in installed.items()} == {
        name.replace(".", "-"): line.split("==")[1] for name, line in pins(lines).items()
    }
    if "vllm" not in IMPORTS[name]:  # its CPU build asks for packages of the build for GPUs
        check = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True)
        assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("name", IMPORTS)
def test_an_environment_imports(shop, name):
    python = prefix(shop, name) / "bin/python"
    done = subprocess.run([python, "-c", f"import {IMPORTS[name]}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
