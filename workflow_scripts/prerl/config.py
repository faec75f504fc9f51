"""Reading and checking config.yaml: JSON schema, then what a schema cannot say. Pure Python, read at every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import yaml

from prerl.methods import ConfigError, deep_merge, inherited_scales, resolve_methods


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error (YAML itself keeps the last, silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{node.start_mark.name}: the key {key!r} stands twice in one block; remove one")
        return super().construct_mapping(node, deep)


def refuse_duplicate_keys(files: list[str]) -> None:
    """Raises ConfigError where one of the config files holds a key twice in the same block."""
    for file in files:
        with open(file, encoding="utf-8") as stream:
            yaml.load(stream, Loader=_UniqueKeyLoader)


def _schema_messages(config: Mapping, schema: Mapping) -> list[str]:
    """One line for each violation: where it is, what is wrong."""
    validator = jsonschema.Draft202012Validator(schema)
    messages = []
    for violation in validator.iter_errors(config):
        error = jsonschema.exceptions.best_match([violation])  # of alternatives that all fail, the nearest
        where = ".".join(str(part) for part in error.absolute_path) or "config"
        if error.validator == "additionalProperties":
            messages.append(f"{where}: {error.message}; keys are {', '.join(error.schema['properties'])}")
        else:
            messages.append(f"{where}: {error.message}")
    return sorted(messages)


def check_scale(block: Mapping) -> None:
    """What the schema cannot say, for the chosen scale. Raises ConfigError with every fault found."""
    benchmarks = block["data"]["benchmarks"]
    faults = []
    if "train" in benchmarks:
        faults.append("data.benchmarks.train: the name belongs to the training problems; rename the benchmark")
    if not any(benchmark["role"] == "main" for benchmark in benchmarks.values()):
        faults.append("data.benchmarks: none has `role: main`, so there is nothing to average; give one that role")
    for key, names in [
        ("validation.benchmarks", block["validation"]["benchmarks"]),
        ("alignment.benchmark", [block["alignment"]["benchmark"]]),
    ]:
        faults += [
            f"{key}: {name!r} is no benchmark; data.benchmarks are {', '.join(benchmarks)}"
            for name in names
            if name not in benchmarks
        ]
    if block["rollouts"]["samples_per_prompt"] < 2:
        faults.append(
            "rollouts.samples_per_prompt: 1 answer makes a group without spread, whose advantage is always 0; "
            "use 2 or more"
        )
    faults += _size_faults(block) + _duplicate_faults(block["data"]) + _corpus_faults(block) + _schedule_faults(block)
    if faults:
        raise ConfigError("\n".join(faults))


def questions_of(problems: Mapping) -> int:
    """Number of problems of a data set's block, `generated` or `file`."""
    return (problems["generated"] if "generated" in problems else problems["file"])["questions"]


def _size_faults(block: Mapping) -> list[str]:
    faults = []
    train, wanted = questions_of(block["data"]["train"]), block["training"]["prompts_per_update"]
    if wanted > train:
        faults.append(f"training.prompts_per_update: {wanted} is more than the {train} training problems; lower it")
    benchmark = block["alignment"]["benchmark"]
    if benchmark in block["data"]["benchmarks"]:
        held, wanted = questions_of(block["data"]["benchmarks"][benchmark]), block["alignment"]["questions"]
        if wanted > held:
            faults.append(f"alignment.questions: {wanted} is more than {benchmark}'s {held}; lower it")
    return faults


def _duplicate_faults(data: Mapping) -> list[str]:
    faults: list[str] = []
    known: dict[str, str] = {}
    for name, benchmark in data["benchmarks"].items():
        if "file" in benchmark:
            other = known.setdefault(benchmark["file"]["sha256"], name)
            if other != name:
                faults.append(f"data.benchmarks.{name} is the same file as {other}; remove one of them")
    return faults


def _corpus_faults(block: Mapping) -> list[str]:
    faults = []
    for name, model in block["models"].items():
        if "generated" not in model:
            continue
        corpus = model["generated"]["corpus"]
        if corpus["prompt_thinking"] + corpus["prompt_no_thinking"] > 1:
            faults.append(f"models.{name}.generated.corpus: the shares prompt_thinking and prompt_no_thinking exceed 1")
        for set_name, problems in {"train": block["data"]["train"], **block["data"]["benchmarks"]}.items():
            longest = max(map(int, corpus["chain_weights"]))
            operations = max(problems["generated"]["operations"]) if "generated" in problems else 0
            if operations > longest:
                faults.append(
                    f"data: {set_name} asks for {operations} operations, the corpus of {name} ends at {longest}, "
                    "beyond which its model cannot even copy a problem; add the length to corpus.chain_weights"
                )
    return faults


def _schedule_faults(block: Mapping) -> list[str]:
    ends = [part["until"] for part in block["validation"]["schedule"]]
    numbers = [end for end in ends if end != "end"]
    if ends[-1] != "end" or len(numbers) != len(ends) - 1 or numbers != sorted(set(numbers)):
        return [f"validation.schedule: `until` is {ends}; it must rise and be `end` in the last entry, and only there"]
    return []


def read_config(config: Mapping, schema_file: Path) -> dict:
    """The block of the chosen scale, complete and checked, with `methods` (the shared ones under its own changes).

    Every scale is held against the schema, the chosen one against the rest. Raises ConfigError.
    """
    config = json.loads(json.dumps(config))  # keys become strings, as in the settings that the jobs get
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    if not isinstance(config.get("scales"), dict) or not all(isinstance(s, dict) for s in config["scales"].values()):
        raise ConfigError("config.yaml holds no `scales:` with a block each; start from the project's config.yaml")
    config["scales"] = inherited_scales(config["scales"])
    messages = _schema_messages(config, schema)
    if messages:
        raise ConfigError("\n".join(messages) + "\nThe keys and their types are in rules/config.schema.yaml")
    scale = config["scale"]
    if scale not in config["scales"]:
        raise ConfigError(f"scale: {scale!r} is none of {', '.join(config['scales'])}")
    block = dict(config["scales"][scale])
    block["methods"] = deep_merge(config["methods"], block.get("methods", {}))
    check_scale(block)
    resolve_methods(block)
    return block
