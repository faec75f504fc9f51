"""What a schema cannot check: settings that do not fit each other. Pure Python, run at every start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from prerl.config.errors import ConfigError, nearest
from prerl.config.functions import function_faults
from prerl.config.hardware import MEASURING
from prerl.config.problems import TrainingProblems
from prerl.config.shapes import FAMILIES, unsupported


def check_scale(block: Mapping) -> None:
    """Check what the schema cannot, for the chosen scale. Raises ConfigError with every fault found."""
    benchmarks = block["data"]["benchmarks"]
    faults = []
    if "train" in benchmarks:
        faults.append("data.benchmarks.train: the name is reserved for the training problems; rename the benchmark")
    if not any(benchmark["role"] == "main" for benchmark in benchmarks.values()):
        faults.append("data.benchmarks: none has `role: main`, so there is nothing to average; give one that role")
    for key, names in [
        ("validation.benchmarks", block["validation"]["benchmarks"]),
        ("alignment.benchmarks", list(block["alignment"]["benchmarks"])),
    ]:
        faults += [
            f"{key}: {name!r} is not one of data.benchmarks: {', '.join(benchmarks)}{nearest(name, benchmarks)}"
            for name in names
            if name not in benchmarks
        ]
    if block["rollouts"]["samples_per_prompt"] < 2:
        faults.append(
            "rollouts.samples_per_prompt: a group of 1 has no spread, so its advantage is always 0; use 2 or more"
        )
    faults += (
        _engine_faults(block["rollouts"], block["hardware"])
        + _control_faults(block)
        + _size_faults(block)
        + _duplicate_faults(block["data"])
        + _own_faults(block["data"])
        + _length_faults(block)
        + _prompt_faults(block)
    )
    faults += _token_mean_faults(block) + _model_faults(block["models"], block["rollouts"]["engine"])
    faults += _corpus_faults(block) + _schedule_faults(block) + _harness_faults(block) + _gpu_faults(block)
    faults += _seed_faults(block) + function_faults(block)
    if faults:
        raise ConfigError("\n".join(faults))


def questions_of(problems: Mapping) -> int:
    """Number of problems of a data set's block."""
    return problems[source_of(problems)]["questions"]


def source_of(problems: Mapping) -> str:
    """Where a data set's block takes its problems from: one of TrainingProblems.one_of."""
    return next(name for name in TrainingProblems.one_of if name in problems)


def _engine_faults(rollouts: Mapping, hardware: Mapping) -> list[str]:
    """What vLLM needs and cannot do."""
    faults = []
    if rollouts["engine"] == "vllm" and "kv_cache_gib" not in rollouts:
        faults.append("rollouts.kv_cache_gib: missing; engine vllm needs the GiB of its key-value cache on each GPU")
    if rollouts.get("kv_cache_gib") == "auto" and "gpu" not in hardware:
        faults.append(
            "rollouts.kv_cache_gib: auto is the rest of hardware.gpu.memory_gib, which is missing; give a number"
        )
    if rollouts["engine"] == "vllm" and rollouts["temperature"] != 1 and rollouts["top_p"] != 1:
        faults.append(
            f"rollouts.temperature: {rollouts['temperature']} together with top_p: {rollouts['top_p']}; vLLM gives no "
            "log-probs of that distribution untruncated; set one of them to 1"
        )
    return faults


def _control_faults(block: Mapping) -> list[str]:
    """Controls that name no method."""
    methods = block["methods"]
    return [
        f"controls.{control}.replace: {name!r} is not a method{nearest(name, methods)}"
        for control, entry in block.get("controls", {}).items()
        for name in [*entry["replace"], *entry["replace"].values()]
        if name not in methods and not name.startswith(f"{block['warmup_sweep']['method']}_s")
    ]


def _token_mean_faults(block: Mapping) -> list[str]:
    """Keys of the official packing, of the scale or a phase: present without it, or missing with it."""
    means = {"training": block["training"]["token_mean"]}
    for name, method in block["methods"].items():
        for index, phase in enumerate(method["phases"]):
            if "token_mean" in phase:
                means[f"methods.{name}.phases.{index}"] = phase["token_mean"]
    faults = []
    for where, token_mean in means.items():
        for key in ("max_tokens_per_micro_batch", "ranks"):
            if token_mean["mode"] == "official" and key not in token_mean:
                faults.append(f"{where}.token_mean.{key}: missing; `mode: official` packs by it, give it a value")
            if token_mean["mode"] == "global" and key in token_mean:
                faults.append(f"{where}.token_mean.{key}: belongs to `mode: official`; remove it, or set that mode")
    return faults


def _model_faults(models: Mapping, engine: str) -> list[str]:
    """A fetched model without its shape or of an unsupported kind, or a generated one with a second shape."""
    faults = []
    for name, model in models.items():
        if "generated" in model:
            if "architecture" in model:
                faults.append(f"models.{name}.architecture: belongs inside `generated`; remove it here")
            continue
        if "architecture" not in model:
            faults.append(f"models.{name}.architecture: missing; copy the keys from the model's config.json")
            continue
        model_type = model["architecture"].get("model_type")
        if model_type not in FAMILIES:
            faults.append(f"models.{name}.architecture: {unsupported(model_type)}")
        elif engine == "vllm" and not FAMILIES[model_type].vllm:
            faults.append(
                f"rollouts.engine: vllm has no {model_type} of its own, as models.{name} needs; set it to transformers"
            )
    return faults


def _gpu_faults(block: Mapping) -> list[str]:
    """GPUs at a scale that describes none; several nodes for another job than training, or unequal GPUs on them."""
    faults = []
    for rule, requested in block["resources"].items():
        nodes, gpu = requested.get("nodes", 1), requested.get("gpu", 0)
        if gpu == "auto":
            missing = [key for key in ("gpu", "gpus_per_node", "longest_job_h") if key not in block["hardware"]]
            if missing:
                faults.append(
                    f"hardware.{missing[0]}: missing, but resources.{rule}.gpu is auto, which chooses by it; give it"
                )
            if nodes > 1:
                faults.append(f"resources.{rule}.nodes: {nodes}; `gpu: auto` is for one node, give a number of GPUs")
            continue
        if gpu and "gpu" not in block["hardware"]:
            faults.append(
                f"hardware.gpu: missing, but resources.{rule} asks for {gpu}; give its name, memory_gib and tflops"
            )
        if gpu > 1 and rule in MEASURING:
            faults.append(f"resources.{rule}.gpu: {gpu}; it uses one GPU, give 1")
        if nodes > 1 and rule != "train_policy":
            faults.append(f"resources.{rule}.nodes: {nodes}; only train_policy runs on several nodes, remove the key")
        elif nodes > 1 and (gpu == 0 or gpu % nodes):
            faults.append(f"resources.{rule}.gpu: {gpu} on {nodes} nodes; give the total, equal on each node")
    return faults


def _size_faults(block: Mapping) -> list[str]:
    faults = []
    train, wanted = questions_of(block["data"]["train"]), block["training"]["prompts_per_update"]
    if wanted > train:
        faults.append(f"training.prompts_per_update: {wanted} is more than the {train} training problems; lower it")
    measured, wanted = block["rollouts"]["samples_per_prompt"], block["training"]["measured_samples_per_prompt"]
    if wanted > measured:
        faults.append(
            f"training.measured_samples_per_prompt: {wanted} is more than rollouts.samples_per_prompt: {measured}; "
            "lower it"
        )
    others = block["alignment"]["other_problems"]
    for name, rollouts in block["alignment"]["benchmarks"].items():
        if name not in block["data"]["benchmarks"]:
            continue
        key, wanted = f"alignment.benchmarks.{name}", rollouts["questions"]
        held = questions_of(block["data"]["benchmarks"][name])
        if wanted > held:
            faults.append(f"{key}.questions: {wanted} is more than its {held}; lower it")
        if wanted <= others:
            faults.append(
                f"{key}.questions: {wanted} leaves {wanted - 1} other problems of alignment.other_problems: {others}; "
                "raise the one or lower the other"
            )
        if rollouts["jobs"] > wanted * rollouts["rollouts_per_question"]:
            faults.append(f"{key}.jobs: {rollouts['jobs']} is more than its rollouts; lower it")
    return faults


def _duplicate_faults(data: Mapping) -> list[str]:
    """The same file, or the same generated problems, under two names (training included)."""
    faults: list[str] = []
    known: dict[str, str] = {}
    for name, problems in {"train": data["train"], **data["benchmarks"]}.items():
        kind = source_of(problems)
        keys = {"file": "sha256", "own": "path"}
        key = problems[kind][keys[kind]] if kind in keys else json.dumps(problems[kind], sort_keys=True)
        other = known.setdefault(key, name)
        if other != name:
            what = "is the same file as" if kind in keys else "asks for the same generated problems as"
            faults.append(f"data.benchmarks.{name} {what} {other}; remove one of them")
    return faults


def _own_faults(data: Mapping) -> list[str]:
    """Problems of the user's that are not there, or in no format that is read."""
    faults = []
    sets = {"train": data["train"]} | {f"benchmarks.{name}": block for name, block in data["benchmarks"].items()}
    for name, problems in sets.items():
        if "own" not in problems:
            continue
        key, path = f"data.{name}.own.path", Path(problems["own"]["path"])
        if not path.exists():
            faults.append(f"{key}: {path} is not there (in {Path.cwd()}); correct the path")
        elif (path / "dataset_dict.json").is_file():
            faults.append(f"{key}: {path} holds several splits; name the folder of one, such as {path / 'train'}")
        elif path.is_dir() and not (path / "state.json").is_file():
            faults.append(f"{key}: {path} has no state.json; name a folder that `save_to_disk` wrote, or a file")
        elif path.is_file() and path.suffix not in (".jsonl", ".csv", ".parquet"):
            faults.append(f"{key}: {path} is none of .jsonl, .csv, .parquet; convert it, or rename it to what it is")
    return faults


def _length_faults(block: Mapping) -> list[str]:
    """Prompts and answers longer than a generated model's position embeddings."""
    faults = []
    for name, model in block["models"].items():
        for stage in ("rollouts", "validation", "evaluation") if "generated" in model else ():
            prompt, answer = block["prompt"]["max_prompt_tokens"], block[stage]["max_new_tokens"]
            held = model["generated"]["architecture"]["max_position_embeddings"]
            if prompt + answer > held:
                faults.append(
                    f"{stage}.max_new_tokens: {answer} and prompt.max_prompt_tokens: {prompt} add up to more than "
                    f"models.{name}.generated.architecture.max_position_embeddings: {held}; lower one or raise that"
                )
    return faults


def _prompt_faults(block: Mapping) -> list[str]:
    """A prompt limit that would cut every prompt of a set.

    By the least tokens that it can have: one for each word, and with the tokenizer of generated models
    (prerl.data.miniature) one for each digit, operator and part of the chat template.
    """
    system, limit = block["prompt"]["system"], block["prompt"]["max_prompt_tokens"]
    fixed = len(system.split()) if system else 0
    if all("generated" in model for model in block["models"].values()):
        fixed = 8 + (0 if block["prompt"]["enable_thinking"] else 4) + (0 if system is None else 5 + bool(system))
    faults = []
    for name, problems in {"train": block["data"]["train"], **block["data"]["benchmarks"]}.items():
        operations = problems["generated"]["operations"] if "generated" in problems else [0]
        fixed_of_set = fixed + (2 if "generated" in problems and problems["generated"].get("search") else 0)
        least, most = (fixed_of_set + 2 * count + 1 for count in (min(operations), max(operations)))
        if limit < least:
            enough = f"to {most}" if system is None and "generated" in problems else f"well above {least}"
            faults.append(
                f"prompt.max_prompt_tokens: {limit} is below every prompt of {name}: {least} tokens or more, "
                f"{fixed} of them system message and chat template; raise it {enough}"
            )
    return faults


def check_mirror(block: Mapping, results: Path) -> None:
    """Raise ConfigError if data.mirror is a folder that does not exist, and a file is still to be fetched."""
    mirror = block["data"]["mirror"]
    if mirror is None or "://" in mirror or Path(mirror).is_dir():
        return
    sets = {"train": block["data"]["train"], **block["data"]["benchmarks"]}
    missing = [
        name
        for name, problems in sets.items()
        if "file" in problems
        and not any((results / made).exists() for made in (f"data/{name}.parquet", f"downloads/{name}"))
    ]
    if missing:
        raise ConfigError(
            f"data.mirror: {mirror} is not a folder (in {Path.cwd()}), and {', '.join(missing)} must still be fetched; "
            "correct it, or set it to null for the public addresses"
        )


def _corpus_faults(block: Mapping) -> list[str]:
    faults = []
    for name, model in block["models"].items():
        if "generated" not in model:
            continue
        searches = "search" in model["generated"]
        kind = "search" if searches else "corpus"
        corpus = model["generated"][kind]
        if corpus["prompt_thinking"] + corpus["prompt_no_thinking"] > 1:
            faults.append(f"models.{name}.generated.{kind}: the shares prompt_thinking and prompt_no_thinking exceed 1")
        for set_name, problems in {"train": block["data"]["train"], **block["data"]["benchmarks"]}.items():
            longest = max(map(int, corpus["chain_weights"]))
            operations = max(problems["generated"]["operations"]) if "generated" in problems else 0
            if operations > longest:
                faults.append(
                    f"data: {set_name} asks for {operations} operations, the corpus of {name} ends at {longest}, "
                    f"beyond which its model cannot even copy a problem; add the length to {kind}.chain_weights"
                )
            if "generated" in problems and bool(problems["generated"].get("search")) != searches:
                asked = "asks for a chain's value" if searches else "is a search"
                faults.append(
                    f"data: {set_name} {asked}, which {name} has never seen; "
                    f"set generated.search: {str(searches).lower()}"
                )
    return faults


def _seed_faults(block: Mapping) -> list[str]:
    """A seed that `more_seeds` would add and that the scale has already."""
    first, most = block["more_seeds"]["next_seed"], block["more_seeds"]["most_seeds"]
    taken = [seed for seed in block["seeds"] if first <= seed < first + most - len(block["seeds"])]
    if not taken:
        return []
    return [
        f"more_seeds.next_seed: {first} leads to seeds {taken}, which `seeds` has; start above {max(block['seeds'])}"
    ]


def _harness_faults(block: Mapping) -> list[str]:
    faults = []
    tasks, engine = block["ood"]["tasks"], block["rollouts"]["engine"]
    if tasks and engine != "vllm":
        faults.append(
            f"ood.tasks: they run with vLLM, and rollouts.engine is {engine}; set it to vllm, or ood.tasks: {{}}"
        )
    for name, task in tasks.items():
        if name in block["data"]["benchmarks"] or name == "mean":
            faults.append(f"ood.tasks.{name}: the name is taken by a benchmark or the mean; rename the task")
        if "folder" in task and not Path(task["folder"]).is_dir():
            faults.append(
                f"ood.tasks.{name}.folder: {task['folder']} is not a folder; name the one that holds the task's YAML"
            )
    return faults


def _schedule_faults(block: Mapping) -> list[str]:
    ends = [part["until"] for part in block["validation"]["schedule"]]
    numbers = [end for end in ends if end != "end"]
    if ends[-1] != "end" or len(numbers) != len(ends) - 1 or numbers != sorted(set(numbers)):
        return [f"validation.schedule: `until` is {ends}; it must rise and be `end` in the last entry, and only there"]
    return []
