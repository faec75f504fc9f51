"""Benchmarks of lm-evaluation-harness with vLLM: one pinned task at a time, seeded sampling, one row per question.

Everything that decides a number is asserted against what the harness reports: the task's version, its few-shot
examples, its questions. Task settings are entries of `ood.tasks` in config.yaml.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from prerl.core.constants import HARNESS_TOKENS
from prerl.core.errors import UserError
from prerl.core.hashes import sha256_of
from prerl.models.prompts import DATE
from prerl.rollouts.vllm_sampler import import_vllm

SCHEMA = pa.schema(
    [
        ("update", pa.int32()),
        ("benchmark", pa.string()),
        ("question", pa.string()),  # harness task / number of the question
        ("n", pa.int32()),  # answers, always 1
        ("correct", pa.int32()),
        ("target", pa.string()),
        ("response", pa.string()),
        ("extracted", pa.string()),  # what the harness's filter took from the response
        ("prompt_hash", pa.string()),  # equal prompts, equal hash: methods are compared on the same questions
    ]
)


class TaskError(UserError):
    """A task that differs from config.yaml; the message names key, value and remedy."""


def digest_of(settings: Mapping, task: Mapping, policy: Path, data: Path) -> str:
    """Hex digest of what determines a task's answers: settings of the run, the task, the policy, its data.

    Which other tasks there are, and whether they may run generated code, is left out.
    """
    files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    free = ("tasks", "run_generated_code")
    fixed = {key: value for key, value in settings.items() if key not in free}
    key = json.dumps([fixed, task, sha256_of(policy), [sha256_of(file) for file in files]], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def request_seed(run_seed: int, prompt: list[int], repetition: int) -> int:
    """63-bit seed of an answer: a function of run, prompt (token ids) and repetition."""
    key = json.dumps([run_seed, prompt, repetition]).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


@contextlib.contextmanager
def harness_environment(run_generated_code: bool) -> Iterator[Path]:
    """The harness offline and with separate caches, in a temporary working directory.

    The caches hold shuffled choices (GPQA), which must not leak from run to run. HumanEval's task asks for the metric
    `code_eval`, which its library looks for in the working directory first: prerl.evaluation.humaneval.
    """
    if "datasets" in sys.modules:
        raise RuntimeError("datasets has already been imported and would use the user's cache: do not import it before")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code_eval").mkdir()
        (folder / "code_eval/code_eval.py").write_text("from prerl.evaluation.humaneval import CodeEval\n")
        os.environ |= {
            "HF_HOME": name,
            "HF_DATASETS_CACHE": f"{name}/datasets",
            "HF_MODULES_CACHE": f"{name}/modules",
            "HF_EVALUATE_CACHE": f"{name}/evaluate",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_EVALUATE_OFFLINE": "1",
            "HF_ALLOW_CODE_EVAL": "1" if run_generated_code else "0",
        }
        with contextlib.chdir(folder):
            yield folder


def load_policy(folder: Path, run_seed: int, enable_thinking: bool, kv_cache_gib: float) -> Any:
    """The checkpoint in the harness's vLLM backend, each request with its seed.

    A seed depends on the run's seed and the prompt alone, so a resumed job draws what an undisturbed one would.
    """
    import_vllm()
    from lm_eval.models.vllm_causallms import VLLM

    class SeededVLLM(VLLM):
        def _model_generate(self, requests, generate=False, sampling_params=None):
            seen: Counter[tuple[int, ...]] = Counter()
            for prompt, parameters in zip(requests, sampling_params if generate else [], strict=generate):
                key = tuple(prompt)
                parameters.seed = request_seed(run_seed, prompt, seen[key])
                seen[key] += 1
            return super()._model_generate(requests, generate, sampling_params)

    gpu = torch.cuda.is_available()
    positions = json.loads((folder / "config.json").read_bytes())["max_position_embeddings"]
    return SeededVLLM(
        str(folder),
        max_model_len=min(positions, HARNESS_TOKENS),
        enable_thinking=enable_thinking,
        chat_template_args=dict(DATE),
        think_end_token="</think>" if enable_thinking else None,  # only what follows is graded
        batch_size="auto",  # all requests at once; vLLM forms the batches
        dtype="bfloat16" if gpu else "float32",
        enforce_eager=not gpu,
        kv_cache_memory_bytes=int(kv_cache_gib * 2**30),
        gpu_memory_utilization=0.01,  # ignored with kv_cache_memory_bytes, but checked at the start
    )


def _verified(manifest: Path) -> Path:
    """The folder of a downloaded data set, every file checked against the manifest."""
    folder = manifest.parent / "files"
    for name, entry in json.loads(manifest.read_bytes())["files"].items():
        if not (folder / name).is_file() or sha256_of(folder / name) != entry["sha256"]:
            raise TaskError(f"{folder / name} is missing or damaged: delete {manifest} and run the same command again")
    return folder


def _specification(manager: Any, task: Mapping, data: Path) -> dict:
    """The task or group, reading the files at `data` in place of the hub's."""
    name = task["task"]
    if name not in manager.task_index:
        raise TaskError(
            f"ood.tasks: lm-evaluation-harness knows no task {name!r}; names are in its folder lm_eval/tasks, your "
            "own tasks in the folder that the entry's `folder` names"
        )
    source = {} if "folder" in task else {"dataset_path": str(_verified(data))}
    return {"group": "ood", "task": [{"task": leaf, **source} for leaf in leaves(manager, name)]}


def leaves(manager: Any, name: str) -> list[str]:
    """The tasks of a group and of the groups in it; a change to the group itself would not reach them."""
    if name not in manager.all_groups:
        return [name]
    return [leaf for child in manager.task_index[name].cfg["task"] for leaf in leaves(manager, child)]


def evaluate_task(policy: Any, benchmark: str, task: Mapping, data: Path, settings: Mapping) -> pa.Table:
    """One benchmark's answers (SCHEMA).

    Args:
        policy: from `load_policy`.
        task: entry of ood.tasks.
        data: manifest of the downloaded data set, or the folder of a user's task.
        settings: JSON of rule evaluate_ood.

    Raises TaskError if the harness reports another version, few-shot count or number of questions than `task`.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    generation = settings["generation"]
    by_user = "folder" in task
    manager = TaskManager(include_path=str(data) if by_user else None, include_defaults=not by_user)
    results = simple_evaluate(
        model=policy,
        tasks=[_specification(manager, task, data)],
        task_manager=manager,
        apply_chat_template=True,
        gen_kwargs={
            "do_sample": generation["temperature"] > 0,
            "temperature": generation["temperature"],
            "top_p": generation["top_p"],
            "max_gen_toks": generation["max_new_tokens"],
        },
        bootstrap_iters=0,  # intervals are ours, from the rows
        confirm_run_unsafe_code=settings["run_generated_code"] and task["runs_code"],
    )
    _check(results, benchmark, task)
    rows = [row for name, samples in results["samples"].items() for row in _rows(name, samples, benchmark, task)]
    if len(rows) != task["questions"]:
        raise TaskError(
            f"ood.tasks.{benchmark}.questions: {task['questions']}, but the harness asked {len(rows)}; correct the "
            "number, or the revision of the data set"
        )
    return pa.Table.from_pylist([{"update": settings["update"], **row} for row in rows], schema=SCHEMA)


def _check(results: Mapping, benchmark: str, task: Mapping) -> None:
    for name in results["samples"]:
        for key, reported in (("version", results["versions"][name]), ("few_shot", results["n-shot"][name])):
            if float(reported) != float(task[key]):
                raise TaskError(
                    f"ood.tasks.{benchmark}.{key}: {task[key]}, but lm-evaluation-harness has {reported} for {name}; "
                    "install the version of envs/ood.yaml, or write the new number, and expect different results"
                )


def _rows(name: str, samples: list[dict], benchmark: str, task: Mapping) -> Iterator[dict]:
    chosen = [sample for sample in samples if sample["filter"] == task["filter"]]
    if not chosen or task["metric"] not in chosen[0]:
        filters = sorted({sample["filter"] for sample in samples})
        raise TaskError(
            f"ood.tasks.{benchmark}: {name} has no metric {task['metric']!r} under the filter {task['filter']!r}; "
            f"its filters are {', '.join(filters)}, its metrics {', '.join(samples[0]['metrics'])}"
        )
    for sample in chosen:
        value = float(sample[task["metric"]])
        if value not in (0.0, 1.0):
            raise TaskError(
                f"ood.tasks.{benchmark}.metric: {task['metric']} of {name} is {value}, not 0 or 1; choose one that is"
            )
        yield {
            "benchmark": benchmark,
            "question": f"{name}/{sample['doc_id']}",
            "n": 1,
            "correct": int(value),
            "target": str(sample["target"]),
            "response": sample["resps"][0][0],
            "extracted": str(sample["filtered_resps"][0]),
            "prompt_hash": sample["prompt_hash"],
        }
