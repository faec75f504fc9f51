"""Stage `miniature`: its real scripts on the GPU, with a hand-over and a kill, beside one CPU core."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from common import SCRIPTS, emit, miniature, on_gpu
from prerl.config.base_models import CorpusSettings
from prerl.config.key import from_dict, select
from prerl.config.training import UpdateSettings
from prerl.data.corpus import corpus_document
from prerl.data.miniature import build_model, build_tokenizer, pretrain, save_model
from prerl.models.checkpoints import new_folder


def miniature_runs(tiny: bool) -> None:
    """The miniature with its real scripts: base model, GRPO, NSR-PreRL, hand-over, kill and resume; one CPU core."""
    block = miniature()
    generated = block["models"]["miniature"]["generated"]
    updates = 3 if tiny else 20
    if tiny:
        generated["pretraining"] |= {"updates": 3, "batch_documents": 8}
        block["training"] |= {"prompts_per_update": 4}
        block["validation"] |= {"samples_per_question": 1, "max_new_tokens": 32}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        base = pretrained(folder / "base", generated)
        steps = generated["pretraining"]["updates"]
        emit("miniature: base model", seconds=time.perf_counter() - began, updates=steps)
        data = block["data"]
        sets = {"train": data["train"]["generated"]} | {
            name: data["benchmarks"][name]["generated"] | ({"questions": 4} if tiny else {})
            for name in block["validation"]["benchmarks"]
        }
        for name, problems in sets.items():
            problems = {"seed": data["seed"], "set": name} | problems
            script(
                "prepare_miniature_data", "--settings", json.dumps(problems), "--problems", folder / f"{name}.parquet"
            )
        grpo = {"space": "posttrain", "samples": "all", "advantage_std": True}
        nsr = {"space": "pretrain", "samples": "negative", "advantage_std": False}
        if on_gpu():
            one_core = trained(folder, block, "one core", grpo, 1, min(3, updates), base, wait=False, cpu=True)
        run = trained(folder, block, "grpo", grpo, 1, updates, base, kill_at=updates // 2)
        emit("miniature: GRPO, killed and resumed", **summary(run, updates))
        run = trained(folder, block, "nsr_prerl", nsr, 1, updates, base)
        emit("miniature: NSR-PreRL", **summary(run, updates))
        start = folder / "start/manifest.json"
        checkpoint = run / f"checkpoints/update{updates:06d}/manifest.json"
        settings = json.dumps({"update": updates, "optimizer": "keep", "start": "trained"})
        script("reincarnate_policy", "--settings", settings, "--checkpoint", checkpoint, "--start", start)
        run = trained(folder, block, "dsrl", grpo, updates + 1, updates + 3, start)
        emit("miniature: GRPO after the hand-over", **summary(run, 3))
        if on_gpu():
            one_core.wait()
            emit("miniature: GRPO on one CPU core", **summary(folder / "one core", min(3, updates)))


def pretrained(folder: Path, generated: dict) -> Path:
    """The base model, pre-trained on the device; its manifest."""
    tokenizer = build_tokenizer()
    model = build_model(generated["architecture"], tokenizer, seed=1).to("cuda" if on_gpu() else "cpu")
    corpus = from_dict(CorpusSettings, generated["corpus"])
    pretrain(model, tokenizer, partial(corpus_document, settings=corpus), seed=1, **generated["pretraining"])
    with new_folder(folder, sum(p.nbytes for p in model.parameters())) as temporary:
        save_model(model.cpu(), tokenizer, temporary)
    return folder / "manifest.json"


def script(name: str, *arguments: object) -> None:
    """Run a script of the workflow to its end."""
    subprocess.run([sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)], check=True)


def trained(folder, block, name, phase, first, last, start, *, kill_at=None, wait=True, cpu=False):
    """A run of train_policy.py; killed with SIGKILL after update `kill_at` and started again. Its output folder."""
    sampling = {key: block["rollouts"][key] for key in ("temperature", "top_p", "batch_rows")}
    phase = phase | {"coefficient": 1.0, "eos_in_mask": True, "optimizer": "keep"}
    validation = block["validation"]
    settings = {
        "seed": 1,
        "phase": phase | {"first_update": first, "last_update": last},
        "kept_updates": [last],
        "optimizer_updates": [last],
        "prompt": block["prompt"],
        "engine": {"name": "transformers"},
        "sampling": sampling | {"max_new_tokens": block["rollouts"]["max_new_tokens"]},
        "samples_per_prompt": block["rollouts"]["samples_per_prompt"],
        "training": select(UpdateSettings, block["training"]) | {"checkpoint_every": 3},
        "validation": {
            "updates": [] if cpu else [first - 1, last] if first == 1 else [last],
            "samples_per_question": validation["samples_per_question"],
            "sampling": sampling | {"max_new_tokens": validation["max_new_tokens"]},
        },
    }
    output, state = folder / name, folder / "state" / name
    command = [sys.executable, str(SCRIPTS / "train_policy.py"), "--settings", json.dumps(settings)]
    command += [
        "--code",
        str(SCRIPTS / "train_policy.py"),
        "--start",
        str(start),
        "--train",
        str(folder / "train.parquet"),
    ]
    command += ["--validation", *(str(folder / f"{name}.parquet") for name in validation["benchmarks"])]
    command += ["--state", str(state), "--output", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    child = subprocess.Popen(command, env=environment)
    if not wait:
        return child
    if kill_at is not None:
        while child.poll() is None and not reached(state / "progress.json", kill_at):
            time.sleep(0.02)
        child.kill()
        child.wait()
        child = subprocess.Popen(command, env=environment)
    if child.wait():
        raise RuntimeError(f"{name} ended with code {child.returncode}")
    return output


def reached(progress: Path, update: int) -> bool:
    try:
        return json.loads(progress.read_text())["update"] >= update
    except FileNotFoundError:
        return False


def summary(output: Path, updates: int) -> dict:
    """Seconds an update by stage, the first one (which compiles) left out; accuracy of the validations."""
    rows = pq.read_table(output / "metrics.parquet").to_pylist()
    names = [name for name in rows[0] if name.startswith("seconds_")]
    values = {name: statistics.median(row[name] for row in rows[1:] or rows) for name in names}
    validation = pq.read_table(output / "validation.parquet").to_pylist()
    accuracy = {f"update {row['update']}, {row['benchmark']}": row["accuracy"] for row in validation}
    gap = max(row["gap_max"] for row in rows)
    finite = all(row["grad_norm"] < float("inf") for row in rows)
    return values | {"ok": len(rows) == updates and finite, "gap_max_nats": gap, "accuracy": accuracy}
