"""The stages of first_light.py, each run as a process: python tests/gpu/stages.py STAGE --shapes qwen3|tiny.

A result is a line that begins with `result `, JSON: its name, numbers, and `ok` where it can be right or wrong.
"""

from __future__ import annotations

import argparse

import torch
import transformers

from common import on_gpu
from organism import miniature_runs
from right import right
from speed import fast, profile, sampler

STAGES = {"right": right, "miniature": miniature_runs, "fast": fast, "profile": profile, "sampler": sampler}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--shapes", choices=["qwen3", "tiny"], required=True)
    parser.add_argument("--limit-s", type=float, help="set by first_light.py, which keeps it")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    if options.shapes == "qwen3" and not on_gpu():
        parser.error("no GPU here; --shapes tiny runs the same code on a CPU")
    if not on_gpu():
        torch.set_num_threads(1)
    STAGES[options.stage](options.shapes == "tiny")


if __name__ == "__main__":
    main()
