"""First light on a GPU: what works there and how fast, on a bare machine, within a time limit.

    python tests/gpu/first_light.py                 one idle GPU, at most 480 seconds
    python tests/gpu/first_light.py --shapes tiny   every stage on two CPU cores in a minute, its numbers mean nothing

Needs torch, transformers, accelerate, pyarrow, safetensors and PyYAML; no vLLM, Snakemake, jsonschema or network. Each
stage (stages.py) is a process group of its own that is killed when its time is up, so a stage that hangs or fails
costs its own results only. Every result is printed and written to the JSON as soon as it is known.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"right": 130, "miniature": 140, "fast": 130, "profile": 40, "sampler": 40}
"""Stage -> most seconds, in order of worth. What a stage leaves unused goes to the later ones."""
MARK = "result "
"""Begins a line of a stage's output that is a result, JSON; the other lines are its log."""
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "triton", "pyarrow", "numpy")


class Record:
    """The JSON of a run, written anew at every change."""

    def __init__(self, file: Path, options: argparse.Namespace) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.data = {
            "command": " ".join(sys.argv),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "commit": _output("git", "-C", str(ROOT), "rev-parse", "HEAD"),
            "shapes": options.shapes,
            "card": _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
            "python": platform.python_version(),
            "cores": len(os.sched_getaffinity(0)),
            "versions": {name: _version(name) for name in PACKAGES},
            "stages": {},
            "results": [],
        }
        self.write()

    def write(self) -> None:
        temporary = self.file.with_suffix(".part")
        temporary.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.file)

    def add(self, stage: str, result: dict) -> None:
        with self.lock:
            self.data["results"].append({"stage": stage, **result})
            self.write()

    def end(self, stage: str, state: str, seconds: float, log: list[str]) -> None:
        """state: done, failed or stopped (out of time). The end of the log is kept unless all went well."""
        with self.lock:
            self.data["stages"][stage] = {"state": state, "seconds": round(seconds, 1)}
            if state != "done":
                self.data["stages"][stage]["log"] = log[-40:]
            self.write()


def _output(*command: str) -> str | None:
    """First line that a program prints; None if it is missing or fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def run_stage(record: Record, stage: str, command: list[str], limit_s: float) -> None:
    """Run a stage's process group to its end or its limit; its results and its end go to the record."""
    began = time.monotonic()
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in child.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    log: list[str] = []
    state = "stopped"
    while (left_s := began + limit_s - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left_s)
        except queue.Empty:
            break
        if line is None:
            state = "done" if child.wait() == 0 else "failed"
            break
        if line.startswith(MARK):
            record.add(stage, json.loads(line.removeprefix(MARK)))
            print(f"{stage}: {line.removeprefix(MARK)}", flush=True)
        else:
            log.append(line)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # the stage, and whatever it started in its group
    child.wait()
    record.end(stage, state, time.monotonic() - began, log)
    print(f"{stage}: {state} after {time.monotonic() - began:.0f} s", flush=True)
    if state == "failed":
        print("\n".join(log[-15:]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=["qwen3", "tiny"], default="qwen3")
    parser.add_argument("--limit-s", type=float, default=480, help="seconds for all stages together")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES), help="default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "results/bench/first_light.json")
    parser.add_argument("--program", type=Path, default=Path(__file__).with_name("stages.py"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shapes == "tiny":  # two stages at a time, where times mean nothing
        os.environ["OMP_NUM_THREADS"] = "1"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    record = Record(options.output, options)
    end = time.monotonic() + options.limit_s - 2  # to write and leave

    def run(index: int) -> None:
        stage, left_s = options.stages[index], end - time.monotonic()
        reserved_s = sum(STAGES[later] for later in options.stages[index + 1 :])
        limit_s = min(left_s, max(left_s - reserved_s, STAGES[stage] * options.limit_s / sum(STAGES.values())))
        if limit_s < 1:
            record.end(stage, "stopped", 0.0, ["no time was left"])
            return
        command = [sys.executable, "-u", str(options.program), stage, "--shapes", options.shapes]
        run_stage(record, stage, [*command, "--limit-s", f"{limit_s:.1f}"], limit_s)

    with ThreadPoolExecutor(2) as two_at_a_time:
        in_turn = two_at_a_time.map if options.shapes == "tiny" else map
        list(in_turn(run, range(len(options.stages))))
    states = {stage: value["state"] for stage, value in record.data["stages"].items()}
    print(f"{states} -> {options.output}", flush=True)
    return 0 if set(states.values()) == {"done"} else 1


if __name__ == "__main__":
    sys.exit(main())
