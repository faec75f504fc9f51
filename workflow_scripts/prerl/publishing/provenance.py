"""Where a figure or table comes from, in a line: the records of the jobs behind it (core/provenance.py), summed up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from prerl.core.constants import BASE
from prerl.core.hashes import hash_of
from prerl.core.provenance import record_name

MODELS = ("pretrain_miniature_model", "pretrain_search_model", "download_model", "import_model")
PROBLEMS = ("prepare_miniature_data", "prepare_data", "prepare_own_data")
"""Rules that make the base models and the problem sets."""
ANSWERS = ("generate_samples", "grade_samples", "count_thoughts")
"""Rules about the answers of a run."""
RUN = re.compile(r"(.+_seed\d+)(_.*)?")  # {model}_{method}_seed{seed} or {model}_seed{seed}, perhaps with more behind
SHOWN = 8  # digits of a hash


def read_records(folder: Path) -> list[dict]:
    """The records below results/{scale}/provenance, by rule and job; none if the folder is missing."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/*.json"))]


def behind(records: Iterable[dict], settings: Mapping) -> list[dict]:
    """The records of the jobs that `settings` (of the publish stage: models, runs, seeds, behind) is about.

    They were done before the target that has these settings was begun, so that another order of jobs changes nothing;
    none of them aggregates, draws or prints.
    """
    rules, sets = settings["behind"]["rules"], settings["behind"]["sets"]
    models, seeds = settings["models"], settings["seeds"]

    def jobs_of(runs: Iterable[str]) -> set[str]:
        parts = ["", *(f"_{method}" for method in (BASE, *runs))]
        return {f"{model}{part}_seed{seed}" for model in models for part in parts for seed in seeds}

    jobs, answered = jobs_of(settings["runs"]), jobs_of(settings["behind"]["answered"])
    jobs |= {f"{rule}/{model}" for rule in ("download_model", "import_model") for model in models}

    def of_them(record: Mapping) -> bool:
        if record["rule"] not in rules:
            return False
        if record["rule"] in PROBLEMS:
            return record["job"] in sets
        run = RUN.fullmatch(record["job"])
        return (run[1] if run else f"{record['rule']}/{record['job']}") in (
            answered if record["rule"] in ANSWERS else jobs
        )

    return [record for record in records if of_them(record)]


def summary(records: Iterable[dict], settings: Mapping) -> dict:
    """What the jobs behind a figure or table have in common, as JSON values; hashes are whole, seconds of all jobs.

    Keys: commits, dirty; code, settings, model_and_data, environment (hashes); versions, seeds, jobs, hardware, chips,
    cpu_seconds, seconds; peak_memory_gib, gpu_peak_memory_gib of the largest job (None: none); unrecorded: training
    runs without a record.
    """
    found = behind(records, settings)
    runs = [record["run"] for record in found]
    trained = {record["job"] for record in found if record["rule"] == "train_policy"}
    expected = [
        f"{model}_{method}_seed{seed}"
        for model in settings["models"]
        for method in (settings["runs"] if "train_policy" in settings["behind"]["rules"] else ())
        for seed in settings["seeds"]
    ]
    prepared = {
        path: digest for r in found if r["rule"] in (*MODELS, *PROBLEMS) for path, digest in r["outputs"].items()
    }
    versions: dict[str, set[str]] = {}
    for record in found:
        for name, version in record["versions"].items():
            versions.setdefault(name, set()).add(version)
    gpu_peaks = [run["gpu_peak_memory_gib"] for run in runs if run["gpu_peak_memory_gib"] is not None]
    return {
        "commits": sorted({record["commit"] for record in found}),
        "dirty": any(record["dirty"] for record in found),
        "code": _of_all(found, "code_sha256"),
        "settings": _of_all(found, "settings_sha256"),
        "model_and_data": hash_of(prepared),
        "environment": hash_of(sorted({record["environment_sha256"] for record in found})),
        "versions": {name: " / ".join(sorted(known)) for name, known in sorted(versions.items())},
        "seeds": list(settings["seeds"]),
        "jobs": len(found),
        "hardware": sorted({_machine(run["hardware"]) for run in runs}),
        "chips": sorted({chip for run in runs for chip in (run["hardware"]["cpu"], *run["hardware"]["gpus"])}),
        "cpu_seconds": round(sum(run["cpu_seconds"] for run in runs), 1),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "peak_memory_gib": max((run["peak_memory_gib"] for run in runs), default=None),
        "gpu_peak_memory_gib": max(gpu_peaks, default=None),
        "unrecorded": sum(job not in trained for job in expected),
    }


def _of_all(records: list[dict], key: str) -> str:
    """One hash of a hash of each job."""
    return hash_of({f"{record['rule']}/{record['job']}": record[key] for record in records})


def _machine(hardware: Mapping) -> str:
    """'2 cores of AMD EPYC, 23.5 GiB, 1 x NVIDIA H200'."""
    gpus = [f"{hardware['gpus'].count(name)} x {name}" for name in dict.fromkeys(hardware["gpus"])]
    return ", ".join([f"{hardware['cores']} cores of {hardware['cpu']}", f"{hardware['memory_gib']} GiB", *gpus])


def seeds_text(seeds: list[int]) -> str:
    """Runs of seeds joined: seeds_text([11, 12, 13, 21]) == '11-13, 21'."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def short(found: Mapping) -> str:
    """A `summary` in one line."""
    if not found["jobs"]:
        return "no record of the jobs behind it"
    shown = {"settings": "settings", "model and data": "model_and_data", "environment": "environment"}
    versions = [
        f"{name} {found['versions'][name]}" for name in ("python", "torch", "vllm") if name in found["versions"]
    ]
    memory = f"at most {found['peak_memory_gib']:.1f} GiB"
    if found["gpu_peak_memory_gib"] is not None:
        memory += f" and {found['gpu_peak_memory_gib']:.1f} GiB of a GPU"
    parts = [
        f"commit {', '.join(found['commits'])}{' with uncommitted changes' if found['dirty'] else ''}",
        ", ".join(f"{name} {found[key][:SHOWN]}" for name, key in shown.items()),
        ", ".join(versions),
        f"seeds {seeds_text(found['seeds'])}",
        f"{found['jobs']} jobs on {' / '.join(found['hardware'])}",
        f"{found['cpu_seconds'] / 3600:.2f} core-hours, {memory}",
    ]
    if found["unrecorded"]:
        parts.append(f"training runs without a record: {found['unrecorded']}")
    return "; ".join(parts)


def line(found: Mapping | None) -> str:
    """What the footer of a figure or the foot of a table says: `short`, and this job's own record; '' for None."""
    return "" if found is None else "; ".join(filter(None, [short(found), record_name()]))


def by_rule(records: Iterable[dict], settings: Mapping) -> dict[str, dict]:
    """What the jobs of each rule took: their number, seconds, CPU seconds, and the largest's memory in GiB."""
    runs: dict[str, list[dict]] = {}
    for record in behind(records, settings):
        runs.setdefault(record["rule"], []).append(record["run"])
    return {
        rule: {
            "jobs": len(own),
            "seconds": round(sum(run["seconds"] for run in own), 1),
            "cpu_seconds": round(sum(run["cpu_seconds"] for run in own), 1),
            "peak_memory_gib": max(run["peak_memory_gib"] for run in own),
        }
        for rule, own in sorted(runs.items())
    }
