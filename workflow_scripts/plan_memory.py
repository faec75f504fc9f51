"""Memory of every job that holds a model, by part, as planned from config.yaml: `--scale paper`."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config
from prerl.core.errors import run_main
from prerl.planning.memory import memory_plans

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml")
    arguments = parser.parse_args()
    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8")) | {"scale": arguments.scale}
    block = read_config(config, ROOT / "rules/config.schema.yaml")
    print("GiB on each GPU, or of the process where a job has no GPU; an estimate.")
    for plan in memory_plans(block, resolve_methods(block)):
        card = block["hardware"].get("gpu", {"name": "unknown GPU"})["name"]
        where = f"{plan.gpus} x {card}" if plan.gpus else "CPU"
        verdict = (
            "" if plan.left_gib is None else f", {'fits' if plan.fits else 'CANNOT FIT'}, {plan.left_gib:.1f} left"
        )
        print(f"\n{plan.rule}, {plan.model}, {where}: {plan.peak_gib:.2f}{verdict}")
        for stage, parts in plan.stages.items():
            listed = " + ".join(f"{name} {gib:.2f}" for name, gib in parts.items())
            print(f"  {stage}: {sum(parts.values()):.2f} = {listed}")


if __name__ == "__main__":
    run_main(main)
