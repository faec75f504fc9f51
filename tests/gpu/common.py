"""What the stages of first_light.py share: results, the device, the configuration without jsonschema."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow_scripts"
sys.path[:0] = [str(SCRIPTS), *(str(ROOT / "tests" / name) for name in ("helpers", "benchmarks"))]
GIB = 1 << 30


def emit(name: str, **values: object) -> None:
    """Print a result."""
    print("result " + json.dumps({"name": name, **values}), flush=True)


def on_gpu() -> bool:
    return torch.cuda.is_available()


def wait_for_device() -> None:
    if on_gpu():
        torch.cuda.synchronize()


def free() -> None:
    """Give the memory of dropped tensors back to the card."""
    if on_gpu():
        torch.cuda.empty_cache()


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call, the device's work included."""
    wait_for_device()
    began = time.perf_counter()
    call()
    wait_for_device()
    return time.perf_counter() - began


def merged(base: dict, override: dict) -> dict:
    """`base` with the keys of `override`, blocks merged. As prerl.config.scales, which needs jsonschema."""
    both = {key: base.get(key) for key in {**base, **override}}
    return {
        key: merged(value or {}, override[key]) if isinstance(override.get(key), dict) else override.get(key, value)
        for key, value in both.items()
    }


def miniature() -> dict:
    """The miniature's block of the configuration."""
    common = yaml.safe_load((ROOT / "config.yaml").read_text())["common"]
    return merged(common, yaml.safe_load((ROOT / "scales/miniature.yaml").read_text()))


def qwen3(name: str):
    """Shape of a Qwen3 of the pilot's or the paper's scale."""
    models = {}
    for scale in ("pilot", "paper"):
        models |= yaml.safe_load((ROOT / f"scales/{scale}.yaml").read_text())["models"]
    from prerl.config.shapes import Shape

    fields = Shape.__dataclass_fields__
    return Shape(**{key: value for key, value in models[name]["architecture"].items() if key in fields})
