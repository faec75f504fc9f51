"""A training job to be timed: the miniature's settings, responses that never end, a pattern of rewards."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pyarrow as pa
import torch

import harness
from prerl.config.key import select
from prerl.config.prompt import PromptSettings
from prerl.config.training import UpdateSettings
from prerl.core.files import write_parquet
from prerl.data.corpus import problem_set, random_problem
from prerl.data.miniature import build_model, build_tokenizer, save_model
from prerl.models.checkpoints import new_folder
from prerl.models.prompts import encode_prompts, load_tokenizer
from prerl.training.settings import TrainSettings
from prerl.training.trainer import Trainer

PROMPTS, GROUP, NEW_TOKENS = 32, 8, 64
RIGHT = 3  # of a mixed group's eight samples


def reward(row: int, mixed_groups: int) -> float:
    """Reward of a row: of every `PROMPTS / mixed_groups` groups one is mixed, the others are all wrong."""
    group, sample = divmod(row, GROUP)
    return float(group % (PROMPTS // mixed_groups) == 0 and sample < RIGHT)


def prepare(folder: Path) -> tuple[Path, Path, list[str]]:
    """Model folder's manifest, problem file, and the prompts as text. The model cannot produce its EOS."""
    tokenizer = build_tokenizer()
    model = build_model(harness.architecture(), tokenizer, seed=0)
    tokenizer.add_special_tokens({"eos_token": "<|never|>"})
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    with new_folder(folder / "model", model.num_parameters() * 4) as temporary:
        save_model(model, tokenizer, temporary)
    problems = problem_set(random.Random(0), random_problem, [2, 3, 4], PROMPTS, held_out=False)
    columns = {"id": [str(i) for i in range(PROMPTS)], "problem": [p.text for p in problems]}
    columns |= {"answer": [str(p.answer) for p in problems]}
    write_parquet(folder / "train.parquet", pa.table(columns))
    ids = encode_prompts(tokenizer, columns["problem"], PromptSettings(**harness.miniature()["prompt"]))
    return folder / "model/manifest.json", folder / "train.parquet", tokenizer.batch_decode(ids)


def own_trainer(folder: Path, start: Path, train: Path, mixed_groups: int) -> Trainer:
    """The project's trainer with the miniature's settings; it trains on the pattern in place of the graded rewards."""
    block = harness.miniature()
    sampling = {key: block["rollouts"][key] for key in ("temperature", "top_p", "batch_rows")}
    sampling["max_new_tokens"] = NEW_TOKENS
    settings = {
        "seed": 1,
        "phase": {"space": "posttrain", "samples": "all", "coefficient": 1.0, "advantage_std": True}
        | {"eos_in_mask": True, "first_update": 1, "last_update": 10_000, "optimizer": "fresh"},
        "kept_updates": [],
        "optimizer_updates": [],
        "prompt": block["prompt"],
        "engine": {"name": "transformers"},
        "sampling": sampling,
        "samples_per_prompt": GROUP,
        "training": select(UpdateSettings, block["training"]),
        "validation": {"updates": [], "samples_per_question": 1, "sampling": sampling},
    }
    # a base model must be able to end its answers; this one never does
    with mock.patch("prerl.training.build.check_base_model", lambda start, *_: load_tokenizer(start)):
        trainer = Trainer(TrainSettings.from_json(json.dumps(settings)), start, train, [], folder / "state", [])
    rewards = torch.tensor([reward(row, mixed_groups) for row in range(PROMPTS * GROUP)])
    train_stage = trainer._train
    trainer._train = lambda graded, update: train_stage(replace(graded, rewards_R=rewards), update)
    return trainer
