"""A small run of two updates in folders of its own and the ways in which test_bad_input.py spoils it.

Each function here takes the run, spoils it, and returns what must then be refused.
"""

from __future__ import annotations

import copy
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

import prerl.core.files
import prerl.training.trainer
from prerl.config.base_models import CorpusSettings
from prerl.config.key import from_dict
from prerl.config.scales import deep_merge, read_config, read_files
from prerl.core.files import read_problems, read_table, write_json, write_parquet
from prerl.core.statistics import pass_at_k
from prerl.data.corpus import corpus_document
from prerl.data.miniature import pretrain
from prerl.evaluation.generation import generate_sharded
from prerl.models.checkpoints import MANIFEST, load_model, seal
from prerl.models.training_checkpoints import load_optimizer
from tiny import TOKENIZER, tiny_model
from tiny_training import PROMPT, SAMPLING, Workshop, job, make_problems

ROOT = Path(__file__).parents[2]
CONFIG = read_files()
Spoil = Callable[["Run"], Callable[[], object]]


def run_job(last_update: int, **changes) -> dict:
    kept = {"kept_updates": [last_update], "optimizer_updates": [last_update]}
    return job({"last_update": last_update}, {"checkpoint_every": 1}, {"updates": []}, **kept | changes)


class Run(Workshop):
    """A copy of a workshop in which `run` has two updates behind it."""

    def __init__(self, made: Workshop, folder: Path, patch: pytest.MonkeyPatch) -> None:
        shutil.copytree(made.folder, folder)
        self.folder, self.patch = folder, patch
        self.base, self.train, self.code = (
            folder / path.relative_to(made.folder) for path in (made.base, made.train, made.code)
        )
        self.validation = [folder / path.relative_to(made.folder) for path in made.validation]

    def further(self) -> Callable[[], object]:
        """The third update of `run`."""
        return lambda: self.run("run", run_job(3))


def configured(change: dict, scale: str = "miniature") -> Spoil:
    """config.yaml with `change`, deep-merged (None at its top stands as written), read as the Snakefile reads it."""
    emptied = {key: None for key, value in change.items() if value is None}
    config = deep_merge(copy.deepcopy(CONFIG) | {"scale": scale} | emptied, change)
    return lambda run: lambda: read_config(config)


def in_scale(**change) -> Spoil:
    return configured({"scales": {"miniature": change}})


def without_benchmarks() -> dict:
    """The block of a scale of its own, as miniature but for its benchmarks."""
    block = copy.deepcopy(CONFIG["scales"]["miniature"])
    block["data"]["benchmarks"] = {}
    return block


def truncated(name: str) -> Spoil:
    """The file `name` of the run's folder, cut in half, where it is read."""

    def spoil(run: Run) -> Callable[[], object]:
        os.truncate(run.folder / name, (run.folder / name).stat().st_size // 2)
        return run.further() if name == "train.parquet" else lambda: read_table(run.folder / name)

    return spoil


def flipped(run: Run) -> Callable[[], object]:
    """A byte of the values, so that only the checksum of the page can tell."""
    path = run.folder / "values.parquet"
    write_parquet(path, pa.table({"a": np.random.default_rng(0).random(1000)}))
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    return lambda: read_table(path)


def no_problem(run: Run) -> Callable[[], object]:
    path = make_problems(run.folder / "empty.parquet", 0)
    return lambda: read_problems(path)


def truncated_shard(run: Run) -> Callable[[], object]:
    """The samples that an interrupted generate_samples goes on from."""
    settings = {
        "seed": 1,
        "samples_per_question": 2,
        "engine": {"name": "transformers"},
        "prompt": PROMPT,
        "sampling": SAMPLING,
    }
    arguments = ({0: run.base}, run.validation[:1], run.folder / "shards", settings)
    generate_sharded(*arguments)
    (shard,) = (run.folder / "shards").iterdir()
    os.truncate(shard, shard.stat().st_size // 2)
    return lambda: generate_sharded(*arguments)


def in_base(spoil: Callable[[Path], object], sealed: bool = False) -> Spoil:
    """The starting policy's folder spoilt, before or after its manifest was written; then the training job."""

    def act(run: Run) -> Callable[[], object]:
        spoil(run.base.parent)
        if sealed:
            seal(run.base.parent)
        return lambda: run.trainer("new", run_job(2))

    return act


def flip_last_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lose_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def close_turns_otherwise(folder: Path) -> None:
    """The chat template ends a turn in another token than the tokenizer's EOS."""
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", "<|endoftext|>"))


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    tiny_model().save_pretrained(folder, max_shard_size="20KB")
    (folder / "model-00002-of-00005.safetensors").unlink()


def foreign_moments(run: Run) -> Callable[[], object]:
    """The AdamW moments of a wider model beside the run's weights."""
    model = load_model(run.base.parent)
    moments = {}
    for name, parameter in model.named_parameters():
        moments |= {f"{name}|{key}": torch.zeros(*parameter.shape, 2) for key in ("exp_avg", "exp_avg_sq")}
        moments[f"{name}|step"] = torch.zeros(())
    save_file(moments, run.base.parent / "optimizer.safetensors")
    return lambda: load_optimizer(run.base.parent, model, torch.optim.AdamW(model.parameters()))


def asked(**changes) -> Spoil:
    """A training job with other settings."""
    return lambda run: lambda: run.trainer("new", run_job(2, **changes))


def too_few_problems(run: Run) -> Callable[[], object]:
    train = make_problems(run.folder / "few/train.parquet", 3)
    return lambda: run.trainer("new", run_job(2), train=train)


def disk_full(run: Run) -> Callable[[], object]:
    """No file may grow beyond the metrics', so that the checkpoint of the third update cannot be written."""

    def act() -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            run.run("run", run_job(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return act


def device_full(name: str, write: Callable[[Path], object]) -> Spoil:
    """A file whose temporary name leads to /dev/full, on which the kernel has no space left."""

    def spoil(run: Run) -> Callable[[], object]:
        path = run.folder / "full" / name
        path.parent.mkdir()
        path.write_text("what stood there before")

        own = prerl.core.files.temporary_name

        def leading(path: Path) -> Path:
            temporary = own(path)
            temporary.symlink_to("/dev/full")
            return temporary

        def act() -> None:
            prerl.core.files.temporary_name = leading
            try:
                write(path)
            finally:
                prerl.core.files.temporary_name = own

        return act

    return spoil


def not_finite(what: str) -> Spoil:
    """The third update with NaN among its rewards, log-probs or in its loss; the trainer's weights must stay."""

    def spoil(run: Run) -> Callable[[], object]:
        trainer = run.trainer("run", run_job(3))
        grade, weigh = prerl.training.trainer.sample_and_grade, prerl.training.trainer.row_weights

        def graded(*arguments):
            result = grade(*arguments)
            if what == "reward":
                return replace(result, rewards_R=result.rewards_R * float("nan"))
            last = result.rollouts[-1]  # of its group not among the measured ones
            return replace(result, rollouts=[*result.rollouts[:-1], replace(last, logprobs=[float("-inf")])])

        if what == "loss":
            run.patch.setattr(
                prerl.training.trainer, "row_weights", lambda *arguments: weigh(*arguments) * float("inf")
            )
        else:
            run.patch.setattr(prerl.training.trainer, "sample_and_grade", graded)

        def act() -> None:
            before = copy.deepcopy(trainer.learner.model.state_dict())
            try:
                trainer.run(run.folder / "run/output")
            finally:
                assert all(
                    torch.equal(before[name], value) for name, value in trainer.learner.model.state_dict().items()
                )

        return act

    return spoil


def diverging_pretraining(run: Run) -> Callable[[], object]:
    shares = CONFIG["scales"]["miniature"]["models"]["miniature"]["generated"]["corpus"]
    corpus = from_dict(CorpusSettings, shares | {"chain_weights": {"2": 1.0}})
    rates = {"muon_learning_rate": 1e20, "adamw_learning_rate": 1e20}
    sizes = {"updates": 4, "batch_documents": 4, "micro_batch_tokens": 512, "seed": 0}
    return lambda: pretrain(tiny_model(), TOKENIZER, partial(corpus_document, settings=corpus), **rates, **sizes)


def more_tries_than_answers(run: Run) -> Callable[[], object]:
    return lambda: pass_at_k(np.array([8.0]), np.array([1.0]), 9)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_numbers(path: Path) -> None:
    write_parquet(path, pa.table({"a": np.random.default_rng(0).random(10_000)}))


def write_record(path: Path) -> None:
    write_json(path, list(range(10_000)))


def damaged_manifest(folder: Path) -> None:
    os.truncate(folder / MANIFEST, 20)


def settings_of(key: str, value: object) -> dict:
    """One changed key of the prompt or the sampling of a training job."""
    return {"prompt": PROMPT | {key: value}} if key in PROMPT else {"sampling": SAMPLING | {key: value}}
