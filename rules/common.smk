# Needs: config.yaml.  Makes: the checked settings of the scale, paths, code lists, resources. Imports nothing heavy.
import json
import os
import re
import shutil
import sys
from dataclasses import asdict, fields
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, f"{workflow.basedir}/workflow_scripts")
from prerl.config.checks import check_mirror, questions_of, source_of
from prerl.config.errors import ConfigError
from prerl.config.functions import BOXED, SEAL
from prerl.config.hardware import MEASURING, gpus_of
from prerl.config.methods import resolve_methods, scheduled_updates, warmup_values
from prerl.config.key import select
from prerl.config.rollouts import SamplingSettings
from prerl.config.scales import config_files, read_config
from prerl.config.shapes import shape_of
from prerl.config.training import UpdateSettings
from prerl.config.validation import refuse_duplicate_keys
from prerl.core.constants import BASE
from prerl.core.provenance import described_commit
from prerl.planning.code_lists import code_files
from prerl.planning.gpus import choose_gpus
from prerl.planning.host_memory import check_host_memory
from prerl.planning.memory import cache_gib, check_memory
from prerl.planning.schedule import priority

try:
    refuse_duplicate_keys([*workflow.configfiles, *config_files()])
    SCALE = read_config(config)
    METHODS = resolve_methods(SCALE)  # every method that can be trained, the warm-up sweep's included
    AUTO = {rule for rule, requested in SCALE["resources"].items() if requested.get("gpu") == "auto"}
    SCALE = choose_gpus(SCALE, METHODS)
    check_memory(SCALE, METHODS)
    check_host_memory(SCALE, METHODS)
    if workflow.is_main_process:  # jobs fetch nothing
        check_mirror(SCALE, Path("results") / config["scale"])
except ConfigError as error:
    raise WorkflowError(f"the configuration cannot be used:\n{error}") from None

# Large pages for the jobs' tensors: fewer page faults and address look-ups (Linux with glibc; elsewhere without effect).
# No job asks the hub for anything but download_model and download_ood, which get the user's HF_HUB_OFFLINE back.
# A prefix replaces Snakemake's, `set -euo pipefail`. The commit, and each job's $PRERL_LOG, are for its record alone.
os.environ.setdefault("PRERL_COMMIT", described_commit(workflow.basedir))  # once a command: its jobs inherit it
shell.prefix(
    "set -euo pipefail; export GLIBC_TUNABLES=glibc.malloc.hugetlb=1; "
    "USERS_HF_HUB_OFFLINE=${{HF_HUB_OFFLINE:-}}; export HF_HUB_OFFLINE=1; "
)

if shutil.which("sbatch"):
    os.environ.update(PATH=f"{workflow.basedir}/slurm:{os.getenv('PATH')}")  # slurm/sbatch, for a busy SLURM

R = f"results/{config['scale']}"
RUN = f"{R}/{{model}}/{{method}}/seed{{seed}}"  # of one method and seed
BASE_RUN = f"{R}/{{model}}/{BASE}/seed{{seed}}"
JOB = "{model}_{method}_seed{seed}"  # names of logs, benchmarks and records
RECORDS = f"{R}/provenance"  # what each job leaves beside its log; no output, like the log

# name of the file with answers of others, for the target `compare_external`
EXTERNAL = re.sub(r"[^A-Za-z0-9._-]", "_", Path(config.get("external", "answers")).stem)

# what trained policies are asked
BENCHMARKS = [name for name, problems in SCALE["data"]["benchmarks"].items() if problems["role"] != "alignment"]
PROBLEM_SETS = {"train": SCALE["data"]["train"], **SCALE["data"]["benchmarks"]}


def sets_of(*sources):
    """Problem sets that are `generated` here, as `sums` too, from a downloaded `file`, or the user's `own`."""
    return [name for name, problems in PROBLEM_SETS.items() if source_of(problems) in sources]


BASELINES, CONTROLS = (
    [name for name, entry in SCALE["methods"].items() if entry.get("target") == target]
    for target in ("baselines", "controls")
)
# what figures, tables and claims are about, but for these two targets
CORE = [name for name, method in METHODS.items() if name not in (*BASELINES, *CONTROLS) and method.part_of is None]


def further_seeds(scale):
    """Seeds that `more_seeds` may add."""
    request = scale["more_seeds"]
    return range(request["next_seed"], request["next_seed"] + request["most_seeds"] - len(scale["seeds"]))


def with_parents(methods):
    """These runs and those whose updates are a part of theirs, in the order of the configuration."""
    chosen = set(methods)
    while parents := {METHODS[name].parent for name in chosen} - chosen - {None}:
        chosen |= parents
    return [name for name in METHODS if name in chosen]


def whole_of(run):
    """The method of a run, which may be the first part of one (prerl.config.methods._early_runs); the base is its own."""
    return run if run == BASE else METHODS[run].part_of or run


def whole(runs):
    """Those of the runs that are a method, not the first part of one (prerl.config.methods._early_runs)."""
    return [name for name in runs if METHODS[name].part_of is None]


# tasks of lm-evaluation-harness; those that run code of the model only if the user allows it
OOD_TASKS = {
    name: task
    for name, task in SCALE["ood"]["tasks"].items()
    if SCALE["ood"]["run_generated_code"] or not task["runs_code"]
}
OOD_LEFT_OUT = [name for name in SCALE["ood"]["tasks"] if name not in OOD_TASKS]

# What computes in the jobs that run a model; the others run none.
SAMPLING = ["sample_rollouts", "diagnose_base_model", "train_policy", "generate_samples"]
ENGINES = dict.fromkeys(SAMPLING, SCALE["rollouts"]["engine"])
ENGINES |= dict.fromkeys(["pretrain_miniature_model", "pretrain_search_model", *MEASURING], "transformers")
ENGINES["evaluate_ood"] = "vllm"  # in lm-evaluation-harness


def code(script, *blocks):
    """The code of a job, as inputs: an edit reruns it, a touch does not (inputs under 4 MB are compared by checksum).

    blocks: of `reward` and `thoughts` those whose function the job calls.
    """
    return code_files(script, [SCALE[block]["function"] for block in blocks])


def functions(*blocks):
    """Those of the blocks `reward` and `thoughts` that a job must be told of: not the trainer's own rules."""
    return {block: SCALE[block] for block in blocks if SCALE[block]["function"] not in (BOXED, SEAL)}


def files_in(path):
    """A file, or the files of a folder, of the user's: inputs, so that an edit reruns."""
    files = [Path(path), *Path(path).rglob("*")]
    return sorted(str(file) for file in files if file.is_file())


def any_of(values):
    """A wildcard's regular expression: one of the values, or no match if there are none."""
    return "|".join(re.escape(str(value)) for value in values) or "(?!)"


def settings(**values):
    """Settings of a job, as the single JSON argument that carries config into it."""
    return json.dumps(values)


def has_critic(rule_name, wildcards):
    """Whether a job has PPO's critic in memory."""
    return rule_name == "train_policy" and METHODS[wildcards.method].critic


def for_each_gpu(rule_name, number):
    """A number for each of the GPUs that were chosen for the job's model."""
    return lambda wildcards: number * gpus_of(SCALE, rule_name, wildcards.model, has_critic(rule_name, wildcards))


def threads_of(rule_name):
    """Cores of a job; `all`: those of the command, so that a job which needs the only GPU runs alone."""
    threads = SCALE["resources"].get(rule_name, {"threads": 1})["threads"]
    if threads == "all":
        return workflow.cores
    return for_each_gpu(rule_name, threads) if rule_name in AUTO else threads


def priority_of(rule_name):
    return lambda wildcards: priority(rule_name, dict(wildcards.items()), SCALE, METHODS)


def resources_of(rule_name):
    """Resources by Snakemake's names; a rule that the scale does not list takes the profile's defaults."""
    requested = SCALE["resources"].get(rule_name, {})
    names = {"gpu": "gpu", "nodes": "nodes", "mem_mb": "mem_mb", "runtime_min": "runtime"}
    resources = {names[key]: value for key, value in requested.items() if key != "threads"}
    if rule_name in AUTO:
        resources["gpu"] = for_each_gpu(rule_name, 1)
        if "mem_mb" in requested:
            resources["mem_mb"] = for_each_gpu(rule_name, requested["mem_mb"])
    if "gpu" in requested:
        resources.setdefault("nodes", 1)
    if requested.get("nodes", 1) > 1:  # the job starts on its first node and takes the others by srun (launch_ranks.py):
        # the SLURM plugin needs `mpi` and the number of tasks; 0: not a task for each GPU
        resources |= {"mpi": "srun", "tasks": requested["nodes"], "tasks_per_gpu": 0}
    return resources


def engine():
    """Block `engine` of a job's settings (prerl.config.rollouts.EngineSettings), but for `engine_memory`."""
    return {"name": SCALE["rollouts"]["engine"]}


def engine_memory(rule_name):
    """The rest of that block, which affects no result. Params derived from `output` are not compared: it reruns nothing."""

    def memory(wildcards, output):
        if "kv_cache_gib" not in SCALE["rollouts"]:
            return settings()
        return settings(kv_cache_gib=cache_gib(rule_name, wildcards.model, SCALE, has_critic(rule_name, wildcards)))

    return memory


def launcher(rule_name):
    """How the rule's script is started: by python, or once for each GPU of the job.

    The numbers of GPUs, of all nodes together, and of nodes are looked up when the job runs: others are no other command
    and rerun nothing. exec: a shell that SIGTERM ends would take the job with it before that has saved.
    """
    if "gpu" not in SCALE["resources"].get(rule_name, {}):
        return "PRERL_LOG={log} OMP_NUM_THREADS={threads} exec python"
    launch = "workflow_scripts/launch_ranks.py --gpus {resources.gpu} --nodes {resources.nodes} --cores {threads} --"
    threads = "$((({threads} * {resources.nodes} + {resources.gpu} - 1) / {resources.gpu}))"
    return f"PRERL_LOG={{log}} OMP_NUM_THREADS={threads} exec python {launch}"


def sampling(max_new_tokens):
    """Block `sampling` of a job's settings (prerl.config.rollouts.SamplingSettings)."""
    names = (field.name for field in fields(SamplingSettings))
    return {name: SCALE["rollouts"][name] for name in names} | {"max_new_tokens": max_new_tokens}


def longest_answer():
    return max(SCALE[block]["max_new_tokens"] for block in ("rollouts", "validation", "evaluation", "alignment"))


def base_manifest(wildcards):
    """The untrained model: one per seed if it is generated, one for all seeds if it comes from the hub."""
    if "generated" in SCALE["models"][wildcards.model]:
        return f"{R}/{wildcards.model}/{BASE}/seed{wildcards.seed}/model/manifest.json"
    return f"{R}/{wildcards.model}/{BASE}/model/manifest.json"


def problems_of(names):
    return [f"{R}/data/{name}.parquet" for name in names]


def benchmarks_of(role):
    return [name for name, benchmark in SCALE["data"]["benchmarks"].items() if benchmark["role"] == role]
