"""What would stop a run, checked before its first job, one line each (rule preflight). Submits and downloads nothing.

Exit status 1 if something is wrong. `later`: the run itself does it first; the command given does it now.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from prerl.config.hardware import chosen_for
from prerl.config.key import from_dict
from prerl.config.methods import resolve_methods
from prerl.config.prompt import PromptSettings
from prerl.config.shapes import check_architecture
from prerl.core.constants import GIB
from prerl.core.errors import UserError, run_main
from prerl.data.hub import HubModel, published
from prerl.models.base_model import check_base_model, load_config
from prerl.models.prompts import end_token_ids, prefix_token_id
from prerl.planning.costs import job_cost
from prerl.planning.dry_runs import PlannedJob, dry_run, planned_block, planned_jobs
from prerl.planning.host_memory import check_host_memory, host_plans
from prerl.planning.memory import check_memory, memory_plans
from prerl.planning.schedule import elapsed

OK, LATER, FAULT = "ok", "later", "FAULT"
REMEDY = (
    "correct account, partition, GPU type or time limit in slurm/config.yaml, cores, GPUs or memory in config.yaml, "
    "resources"
)
Finding = tuple[str, str]  # OK, LATER or FAULT, and the finding with its remedy


class Resources(dict):
    """A job's resources as the SLURM plugin reads them: by name, whole numbers as int."""

    def __init__(self, written: Mapping[str, str]) -> None:
        super().__init__({key: int(value) if value.isdecimal() else value for key, value in written.items()})

    __getattr__ = dict.__getitem__


def check_disk(
    left: list[PlannedJob], block: Mapping, results: Path, cores: int, jobs: int | None
) -> Iterator[Finding]:
    """Room for what the remaining jobs, `jobs` of them on `cores` cores at a time, will hold, by formula."""
    methods = resolve_methods(block)
    costs = [job_cost(job.rule, job.wildcards, block, methods) for job in left]
    _, _, needed = elapsed(left, costs, [cost.wall_s for cost in costs], cores, jobs or len(left))
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists()).resolve()
    free = shutil.disk_usage(place).free / GIB
    said = f"{place} has {free:.0f} GiB free, the remaining jobs hold up to {needed:.0f} GiB at a time (formula)"
    if free < needed:
        yield FAULT, f"{said}: make room, or make `results` a link to a folder on a larger disk"
    else:
        yield OK, f"{said}; quotas are not checked"


def source_of(model: Mapping) -> str:
    """Where a model comes from, in words."""
    if "hub" in model:
        return str(HubModel(**model["hub"]))
    if "package" in model:
        return f"{model['package']['file']} of {model['package']['name']} {model['package']['version']}"
    return f"folder {model['folder']}"


def check_models(block: Mapping, results: Path) -> Iterator[Finding]:
    """Revision, files, shape, tokenizer, template and EOS of the downloaded models."""
    longest = max(block[stage]["max_new_tokens"] for stage in ("rollouts", "validation", "evaluation", "alignment"))
    for name, model in block["models"].items():
        if "generated" in model:
            yield OK, f"{name} is trained here, nothing to download"
            continue
        manifest, source = results / name / "base/model/manifest.json", source_of(model)
        if not manifest.exists():
            command = f"snakemake --cores 1 --config scale={results.name} -- {manifest}"
            yield LATER, f"{name} ({source}) is not here yet: `{command}`"
            continue
        folder = published(HubModel(**model["hub"]), manifest) if "hub" in model else manifest.parent
        check_architecture(name, model["architecture"], load_config(folder).to_dict())
        prompt = from_dict(PromptSettings, block["prompt"])
        tokenizer = check_base_model(folder, prompt, longest)
        ids = [prefix_token_id(tokenizer, prompt), *end_token_ids(folder, tokenizer)]
        prefix, *ends = (f"{tokenizer.convert_ids_to_tokens(i)} {i}" for i in ids)
        yield OK, f"{name} is {source}; P(y) begins after {prefix}, answers end at {', '.join(ends)}"


def check_environments(said: str, arguments: list[str]) -> Iterator[Finding]:
    """The environments that Snakemake would have to build, named in its dry run."""
    missing = sorted(set(re.findall(r"^(?:Incomplete )?Conda environment (\S+) will be (?:re)?created", said, re.M)))
    if missing:
        command = shlex.join(["snakemake", *arguments, "--conda-create-envs-only"])
        yield LATER, f"{', '.join(missing)}: not built yet: `{command}`"
    else:
        yield OK, "all are built"


def check_memory_plan(block: Mapping) -> Iterator[Finding]:
    """Memory that each kind of job needs at its peak, by part, with the GPUs that the profile gives; the host's too."""
    methods = resolve_methods(block)
    check_memory(block, methods)
    plans = [plan for plan in memory_plans(block, methods) if plan.capacity_gib]
    for plan in plans:
        parts = " + ".join(f"{name} {gib:.1f}" for name, gib in plan.stages[plan.peak_stage].items())
        job = f"{plan.rule} of {chosen_for(plan.model, plan.critic)} on {plan.gpus} GPU(s)"
        yield OK, f"{job}: {plan.peak_gib:.1f} of {plan.capacity_gib} GiB each, planned; {plan.peak_stage}: {parts}"
    check_host_memory(block, methods)
    for name, (host, given) in host_plans(block, methods).items():
        listed = " + ".join(f"{part} {gib:.1f}" for part, gib in host.items())
        yield OK, f"{name}: {sum(host.values()):.1f} of {given:.0f} GiB of host memory for each GPU, planned; {listed}"
    if not plans:
        yield OK, "no job asks for a GPU"


def check_queue(submitted: list[PlannedJob]) -> Iterator[Finding]:
    """Whether SLURM would take the jobs: `sbatch --test-only` with the plugin's options, once per distinct request."""
    if shutil.which("sbatch") is None:
        yield FAULT, "sbatch is not on the path: run this on a login node of the cluster, or load its SLURM module"
        return
    requests: dict[str, PlannedJob] = {}  # request -> its first job, which stands for the others
    for job in submitted:
        requests.setdefault(sbatch_options(job), job)
    limits = time_limits()
    accepted = []
    for options, job in requests.items():
        command = ["sbatch", "--test-only", *shlex.split(options), "--wrap", "true"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            reason = " ".join(done.stderr.split())
            yield FAULT, f"{job.rule}: {reason} (asked: {options}); {REMEDY}"
        elif fault := too_long(job, limits):
            yield FAULT, fault
        else:
            accepted.append(job.rule)
    if accepted:
        yield OK, f"SLURM accepts the jobs of {', '.join(accepted)}"


def too_long(job: PlannedJob, limits: Mapping) -> str:
    """The fault of a job whose time limit exceeds its partition's, else "". `sbatch` may accept it all the same."""
    partitions = job.resources.get("slurm_partition", limits["default"])
    longest = max(limits.get(name, math.inf) for name in partitions.split(","))
    asked = int(job.resources.get("runtime", 0))
    if asked <= longest:
        return ""
    return (
        f"{job.rule}: asks for {asked} minutes, the partition {partitions} allows {longest:.0f}, and may wait forever; "
        "set its runtime to that in slurm/config.yaml, set-resources (training goes on in slices), or name another one"
    )


def time_limits() -> dict:
    """Partition -> most minutes of a job, and under `default` the name of the default partition, as sinfo has them."""
    limits: dict = {"default": ""}
    command = ["sinfo", "--noheader", "--format=%P %l"]
    for line in subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.splitlines():
        name, limit = line.split()
        if name.endswith("*"):
            limits["default"] = name = name.removesuffix("*")
        limits[name] = minutes(limit)
    return limits


def minutes(limit: str) -> float:
    """minutes("5-01:30:00") == 7290, minutes("30:00") == 30, minutes("infinite") == inf."""
    if not limit[0].isdigit():
        return math.inf
    days, _, clock = limit.rpartition("-")
    hours, minute, second = [0, 0, 0, *map(int, clock.split(":"))][-3:]
    return 1440 * int(days or 0) + 60 * hours + minute + second / 60


def sbatch_options(job: PlannedJob) -> str:
    """What the SLURM plugin would ask for, by its functions, without name, log and comment of a job."""
    asking = SimpleNamespace(resources=Resources(job.resources), threads=int(job.resources["cpus"]))
    names = {"account": "-A", "partition": "-p"}
    named = {
        key: f"{option} {shlex.quote(str(asking.resources[f'slurm_{key}']))}"
        if f"slurm_{key}" in asking.resources
        else ""
        for key, option in names.items()
    }
    fixed = {"run_uuid": "preflight", "slurm_logfile": "/dev/null", "comment_str": "preflight", "workdir": ""}
    command = get_submit_command(asking, fixed | named) + set_gres_string(asking)
    return " ".join(command.split("--comment preflight", 1)[1].split())


def report(topic: str, check: Callable[[], Iterator[Finding]]) -> bool:
    """Print the findings of a check; returns whether all is well."""
    try:
        findings = list(check())
    except UserError as error:
        findings = [(FAULT, line) for line in str(error).splitlines()]
    for state, said in findings:
        print(f"{state:<6}{topic}: {said}", flush=True)
    return all(state != FAULT for state, _ in findings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON, see rules/preview.smk")
    settings = parser.parse_args().settings
    results = Path("results") / settings["scale"]
    said = dry_run(settings["arguments"], ["all"])
    left = [job for job in planned_jobs(said) if job.rule != "all"]
    print(f"{OK:<6}config: scale {settings['scale']}, {len(left)} jobs left")
    block = planned_block(settings["configfiles"], settings["scale"], left)
    checks = {
        "GPU memory": lambda: check_memory_plan(block),
        "disk": lambda: check_disk(left, block, results, settings["cores"], settings["jobs"]),
        "model": lambda: check_models(block, results),
    }
    if settings["builds_environments"]:
        checks["environments"] = lambda: check_environments(said, settings["arguments"])
    submitted = [job for job in left if job.rule in settings["submitted"]]
    if submitted:
        checks["queue"] = lambda: check_queue(submitted)
    well = [report(topic, check) for topic, check in checks.items()]
    return 0 if all(well) else 1


if __name__ == "__main__":
    run_main(main)
