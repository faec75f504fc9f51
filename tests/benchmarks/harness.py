"""What the benchmarks share: repeats in turn, ratios with their spread, markdown, the miniature's model and batches.

Each script measures its sides in turn (A B A B …) in one run, so that a change of the machine's load meets all of them;
a ratio is taken within a repeat. Results go to stdout and to results/bench/{script}.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results/bench"
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "tests/helpers")]


def quick(description: str) -> bool:
    """Parse the one option of every benchmark: --quick, fewer repeats."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it runs")
    return parser.parse_args().quick


def one_thread() -> None:
    """One torch thread, whatever the environment says, and no progress bars in the report."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(sides: dict[str, Callable[[], object]], repeats: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of each side in each repeat; the sides take turns, and turn round in every second repeat."""
    for _ in range(warm_ups):
        for call in sides.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        names = list(sides) if repeat % 2 == 0 else list(sides)[::-1]
        for name in names:
            times[name].append(seconds(sides[name]))
    return times


def ratios(numerator: list[float], denominator: list[float]) -> list[float]:
    """Ratio of each repeat: ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def spread(values: list[float], digits: int = 2) -> str:
    """'median (min to max)': spread([1.0, 4.0, 2.0], 1) == '2.0 (1.0 to 4.0)'."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """Cores, processor, Python and torch, in one line."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].split(":")[1].strip() if models else platform.machine()
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    return f"{len(os.sched_getaffinity(0))} cores, {processor}, Python {platform.python_version()}, {versions}"


def report(script: str, title: str, *parts: str) -> None:
    """Print the parts under a title and write them to results/bench/{stem of script}.md."""
    text = "\n\n".join([f"## {title}", machine() + ".", *parts]) + "\n"
    print(text, flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{Path(script).stem}.md").write_text(text, encoding="utf-8")


def block(scale: str) -> dict:
    """The scale's block of config.yaml, checked and complete, as the workflow reads it."""
    from prerl.config.scales import read_config, read_files  # not above: a bare GPU machine has no jsonschema

    return read_config(read_files() | {"scale": scale})


def miniature() -> dict:
    """The block of the scale miniature."""
    return block("miniature")


def architecture(**changes) -> dict:
    """Keys of Qwen3Config of the miniature's model (0.34 million parameters)."""
    return miniature()["models"]["miniature"]["generated"]["architecture"] | changes
