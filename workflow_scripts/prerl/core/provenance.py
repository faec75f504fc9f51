"""The record of a job: which code, settings, inputs, packages and machine made its files, and what it took.

One JSON file for each job, `results/{scale}/provenance/{rule}/{job}.json`, as its log in `logs/`. Parquet files,
figures and tables name their record. What differs between two runs of the same thing (times, memory, hardware, job id)
stands under `run`, apart from what must not. Snakemake gives the job's log as $PRERL_LOG and the commit as
$PRERL_COMMIT; without a log, as when a script is started by hand, nothing is recorded.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from prerl.core.constants import GIB
from prerl.core.hashes import hash_of, sha256_of

SCRIPTS = Path(__file__).parents[2]
KEY = "provenance"
"""Of a parquet file's schema metadata: its record, relative to results/{scale}."""
DIRTY = "+dirty"
OPERATION = ("--engine-memory", "--tracker")  # options that change no result
FILES = (".parquet", ".json", ".jsonl", ".csv", ".md", ".pdf", ".png")  # arguments that are hashed
LIBRARIES = ("numpy", "pandas", "pyarrow", "matplotlib", "torch", "transformers", "tokenizers", "accelerate", "vllm")
STAMP_S = 0.05  # by which a file's time stamp may lag behind the clock: kernels take it at their last tick
RSS_BYTES = 1 if sys.platform == "darwin" else 1024  # unit of getrusage's peak


def described_commit(folder: Path) -> str:
    """The first 12 digits of the commit of `folder`, '+dirty' if tracked files differ; 'unknown' without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--exclude=*", f"--dirty={DIRTY}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def record_path() -> Path | None:
    """Where this job's record belongs; None outside a job."""
    if not (log := os.environ.get("PRERL_LOG")):
        return None
    path = Path(log)
    if path.parent.parent.name != "logs" or path.suffix != ".log":
        raise ValueError(f"PRERL_LOG={log}: a job's log is results/{{scale}}/logs/{{rule}}/{{job}}.log; unset it")
    return path.parents[2] / KEY / path.parent.name / f"{path.stem}.json"


def record_name() -> str | None:
    """This job's record as its files name it, 'provenance/{rule}/{job}.json'; None outside a job."""
    path = record_path()
    return None if path is None else "/".join(path.parts[-3:])


def _code() -> dict[str, str]:
    """Every file of the project that this process has loaded: path from workflow_scripts/, sha256."""
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {Path(name).resolve() for name in loaded if name}
    return {str(file.relative_to(SCRIPTS)): sha256_of(file) for file in files if file.is_relative_to(SCRIPTS)}


def _settings(arguments: list[str]) -> dict:
    """The value of each option that is a JSON object: what the job was configured with."""
    values = zip(arguments, arguments[1:], strict=False)
    given = {name: value for name, value in values if name.startswith("--") and value.startswith("{")}
    return {name.removeprefix("--"): json.loads(value) for name, value in given.items() if name not in OPERATION}


def _functions(settings: dict) -> list[str]:
    """Files of the user's with the reward and the thought rule of this job (prerl.config.functions)."""
    given = [block for option in settings.values() for block in (option, option.get("rules", {}))]
    named = [block[name]["function"] for block in given for name in ("reward", "thoughts") if name in block]
    return [function.rsplit(":", 1)[0] for function in named if ":" in function]


def _packages() -> dict[str, str]:
    """Every installed distribution and its version, Python's own included; from folder names, which takes no time."""
    found = {folder.stem for entry in sys.path for folder in Path(entry).glob("*.dist-info")}
    versions = {name.lower(): version for name, _, version in (stem.rpartition("-") for stem in found)}
    return dict(sorted((versions | {"python": platform.python_version()}).items()))


def hardware() -> dict:
    """Processor, its cores that this process may use, memory in GiB and, if torch is loaded, the names of its GPUs."""
    described = Path("/proc/cpuinfo")  # Linux
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    torch = sys.modules.get("torch")
    gpus = range(torch.cuda.device_count()) if torch and torch.cuda.is_available() else ()
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "gpus": [torch.cuda.get_device_name(number) for number in gpus] if torch else [],
    }


def _run(start: float) -> dict:
    """What this run took: wall and CPU seconds since `start` (time.time()), peak memory of the largest process."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    slurm = os.environ.get("SLURM_JOB_ID")
    return {
        "job_id": f"slurm {slurm}" if slurm else f"process {os.getpid()}",
        "started": datetime.fromtimestamp(start, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - start, 3),
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "peak_memory_gib": round(max(own.ru_maxrss, children.ru_maxrss) * RSS_BYTES / GIB, 3),
        "gpu_peak_memory_gib": round(torch.cuda.max_memory_allocated() / GIB, 3) if torch and on_gpu else None,
        "hardware": hardware(),
    }


def record(path: Path, arguments: list[str], start: float) -> dict:
    """The record of this process, a job that read and wrote the files named in `arguments` since `start`."""
    commit, settings, packages = os.environ.get("PRERL_COMMIT", "unknown"), _settings(arguments), _packages()
    files = {name: Path(name) for name in arguments if name.endswith(FILES)}
    files |= {name: Path(name) for name in _functions(settings)}
    hashes = {name: (sha256_of(file), file.stat().st_mtime) for name, file in files.items() if file.is_file()}
    return {
        "rule": path.parent.name,
        "job": path.stem,
        "commit": commit.removesuffix(DIRTY),
        "dirty": None if commit == "unknown" else commit.endswith(DIRTY),
        "code_sha256": hash_of(_code()),
        "settings": settings,
        "settings_sha256": hash_of(settings),
        "inputs": {name: digest for name, (digest, changed) in hashes.items() if changed < start - STAMP_S},
        "outputs": {name: digest for name, (digest, changed) in hashes.items() if changed >= start - STAMP_S},
        "environment_sha256": hash_of(packages),
        "versions": {name: packages[name] for name in ("python", *LIBRARIES) if name in packages},
        "run": _run(start),
    }


def write_record(path: Path, start: float) -> None:
    """Record this process if it is the first of its job. start: time.time() at its start."""
    if os.environ.get("RANK", "0") != "0":
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    text = json.dumps(record(path, sys.argv[1:], start), indent=1, sort_keys=True)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
