"""The settings of a training job, and the digests that decide whether a state on disk belongs to it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import transformers

from prerl.config.functions import MATH_VERIFY, RewardSettings, ThoughtSettings
from prerl.config.key import from_dict
from prerl.config.prompt import PromptSettings
from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.config.training import CriticSettings, UpdateSettings
from prerl.core.hashes import sha256_of
from prerl.objectives.objective import Objective

SCHEDULING = {"last_update", "kept_updates", "optimizer_updates", "validation"}
"""Settings of a job that change neither weights nor metrics: where to stop, what to keep, when to validate."""

OPERATION = {"checkpoint_every", "keep_checkpoints", "max_gap_nats", "activation_checkpointing"}
"""Keys of the update that do not either: when to save or give up, what to keep, and memory."""


@dataclass(frozen=True)
class ValidationSettings:
    """When to validate (updates, 0 is the start), with how many answers to each question, drawn how."""

    updates: list[int]
    samples_per_question: int
    sampling: SamplingSettings


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training job (JSON of rule train_policy).

    first_update, last_update: of the whole chain of phases, counted from 1. kept_updates: those whose checkpoint is an
    output; optimizer_updates: those of them that hold the AdamW moments. optimizer: `keep` or `fresh` moments at the
    start. update: keys of block `training`. critic: of the estimator gae, None with any other. reward, thoughts: None
    for the official reward and SEAL's rule.
    """

    seed: int
    first_update: int
    last_update: int
    kept_updates: list[int]
    optimizer_updates: list[int]
    optimizer: str
    objective: Objective
    critic: CriticSettings | None
    prompt: PromptSettings
    sampling: SamplingSettings
    engine: EngineSettings
    samples_per_prompt: int
    update: UpdateSettings
    validation: ValidationSettings
    reward: RewardSettings | None = None
    thoughts: ThoughtSettings | None = None

    def __post_init__(self) -> None:
        if (self.critic is None) is (self.objective.estimator == "gae"):
            raise ValueError(f"critic: {self.critic} does not fit `estimator: {self.objective.estimator}`")

    @classmethod
    def from_json(cls, text: str) -> TrainSettings:
        """Parse the rule's JSON (rules/train.smk); an unknown or missing key is a TypeError or KeyError naming it."""
        values = json.loads(text)
        phase = values.pop("phase")
        span = {name: phase.pop(name) for name in ("first_update", "last_update", "optimizer")}
        update = from_dict(UpdateSettings, values.pop("training"))
        objective = Objective(
            **phase,
            token_mean=update.token_mean.mode,
            max_tokens_per_micro_batch=update.token_mean.max_tokens_per_micro_batch or 0,
            ranks=update.token_mean.ranks or 1,
            clip_low=update.clip_low,
            clip_high=update.clip_high,
        )
        given = {"critic": None, **values, **span}
        return from_dict(cls, {**given, "objective": asdict(objective), "update": asdict(update)})

    @property
    def longest_answer_tokens(self) -> int:
        """Most new tokens of any answer that the job samples."""
        return max(self.sampling.max_new_tokens, self.validation.sampling.max_new_tokens)

    def trajectory(self) -> dict:
        """The settings that change weights or metrics."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in SCHEDULING}
        values["update"] = {key: value for key, value in asdict(self.update).items() if key not in OPERATION}
        values["engine"] = self.engine.name
        for name, rule in (("reward", self.reward), ("thoughts", self.thoughts)):
            if rule is not None and rule.function != MATH_VERIFY:  # beyond the limit of another one the job ends
                values[name] = {key: value for key, value in asdict(rule).items() if key != "time_limit_s"}
        return json.loads(json.dumps(values, default=asdict))

    def validations(self) -> list[int]:
        """The updates of this job after which it validates; 0, the start, if the job begins there."""
        first = 0 if self.first_update == 1 else self.first_update
        return [update for update in self.validation.updates if first <= update <= self.last_update]


def validation_key(settings: TrainSettings, files: list[Path]) -> str:
    """Hex digest of all that decides a validation besides the policy: samples, sampling and question files."""
    parts = [settings.validation.samples_per_question, asdict(settings.validation.sampling)]
    parts += [[path.stem, sha256_of(path)] for path in files]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(settings: TrainSettings, files: list[Path]) -> str:
    """Hex digest of all that decides the trajectory: settings, start, data, code, library and Python versions."""
    parts = {
        "settings": settings.trajectory(),
        "files": [sha256_of(path) for path in files],
        "versions": [torch.__version__, transformers.__version__, np.__version__, platform.python_version()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
