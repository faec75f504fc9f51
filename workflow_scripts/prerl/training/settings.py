"""What a training job is told, and the digests that say whether a state on disk belongs to it."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

from prerl.core.files import sha256_of
from prerl.models.prompts import PromptSettings
from prerl.objectives.objective import Objective
from prerl.rollouts.interface import EngineSettings, SamplingSettings
from prerl.training.critic import CriticSettings


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training job is told (JSON of rule train_policy); field names are config.yaml's keys.

    first_update, last_update: of the whole chain, counted from 1. kept_updates: those whose checkpoint is an output;
    optimizer_updates: those of them that hold the AdamW moments. validation_updates may hold 0, the start. critic: of
    the estimator gae, None with any other.
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
    prompts_per_update: int
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    grad_clip: float
    micro_batch_tokens: int
    max_gap_nats: float
    measured_samples_per_prompt: int
    precision: str
    activation_checkpointing: bool
    pack_rows: bool
    checkpoint_every: int
    validation_updates: list[int]
    validation_samples: int
    validation_sampling: SamplingSettings

    def __post_init__(self) -> None:
        if (self.critic is None) is (self.objective.advantages == "gae"):
            raise ValueError(f"critic: {self.critic} does not fit `advantages: {self.objective.advantages}`")

    @classmethod
    def from_json(cls, text: str) -> TrainSettings:
        """Parse the rule's JSON (rules/train.smk); an unknown or missing key is a TypeError or KeyError naming it."""
        values = json.loads(text)
        phase, training, validation = (values.pop(name) for name in ("phase", "training", "validation"))
        critic = values.pop("critic", None)  # given for gae alone
        token_mean = {"max_tokens_per_micro_batch": 0, "ranks": 1} | training.pop("token_mean")
        return cls(
            first_update=phase.pop("first_update"),
            last_update=phase.pop("last_update"),
            optimizer=phase.pop("optimizer"),
            objective=Objective(
                **phase,
                token_mean=token_mean.pop("mode"),
                **token_mean,
                clip_low=training.pop("clip_low"),
                clip_high=training.pop("clip_high"),
            ),
            critic=None if critic is None else CriticSettings(**critic),
            prompt=PromptSettings(**values.pop("prompt")),
            engine=EngineSettings(**values.pop("engine")),
            sampling=SamplingSettings(**values.pop("sampling")),
            betas=tuple(training.pop("betas")),
            **training,
            validation_updates=validation.pop("updates"),
            validation_samples=validation.pop("samples"),
            validation_sampling=SamplingSettings(**validation.pop("sampling")),
            **validation,
            **values,
        )

    @property
    def longest_answer_tokens(self) -> int:
        """Most new tokens of any answer that the job samples."""
        return max(self.sampling.max_new_tokens, self.validation_sampling.max_new_tokens)

    def trajectory(self) -> dict:
        """The settings that change weights or metrics; where to stop, keep, save or validate, and memory, do not."""
        free = {"last_update", "kept_updates", "optimizer_updates", "checkpoint_every", "max_gap_nats"}
        free |= {"activation_checkpointing"}
        values = {k: v for k, v in self.__dict__.items() if k not in free and not k.startswith("validation")}
        values["engine"] = self.engine.name
        return json.loads(json.dumps(values, default=lambda value: value.__dict__))

    def validations(self) -> list[int]:
        """The updates of this job after which it validates; 0, the start, if the job begins there."""
        first = 0 if self.first_update == 1 else self.first_update
        return [update for update in self.validation_updates if first <= update <= self.last_update]


def validation_key(settings: TrainSettings, files: list[Path]) -> str:
    """Hex digest of all that decides a validation besides the policy: samples, sampling and question files."""
    parts = [settings.validation_samples, settings.validation_sampling.__dict__]
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
