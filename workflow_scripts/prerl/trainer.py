"""The trainer: one loop for every method, both spaces and both scales.

An update samples responses, grades them, scores the rows whose advantage counts in the phase's space, and takes one
strictly on-policy AdamW step (official: batch = mini-batch, so the PPO ratio is 1). Randomness is a function of (seed,
update, prompt, sample) only, so resuming or handing over needs no generator state. State is written to a folder that is
no output of the workflow; the named outputs appear when the last update is done.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import transformers
from accelerate import Accelerator

from prerl import checkpoints
from prerl.files import read_problems, write_parquet
from prerl.objectives import Objective, counting_rows, group_advantages, row_weights
from prerl.prompts import PromptSettings, encode_prompts, load_tokenizer, prefix_token_id
from prerl.rollouts import GradedRollouts, sample_and_grade, update_metrics
from prerl.samplers import SamplingSettings, build_sampler, sample_seed
from prerl.updates import measure_spaces, policy_update


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training job is told (JSON of rule train_policy); field names are config.yaml's keys.

    first_update, last_update: of the whole chain, counted from 1. kept_updates: those whose checkpoint is an output;
    optimizer_updates: those of them that hold the AdamW moments. validation_updates may hold 0, the start.
    """

    seed: int
    first_update: int
    last_update: int
    kept_updates: list[int]
    optimizer_updates: list[int]
    optimizer: str
    objective: Objective
    prompt: PromptSettings
    sampling: SamplingSettings
    engine: str
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
    checkpoint_every: int
    validation_updates: list[int]
    validation_samples: int
    validation_sampling: SamplingSettings

    @classmethod
    def from_json(cls, text: str) -> TrainSettings:
        """Parse the rule's JSON (rules/train.smk); an unknown or missing key is a TypeError or KeyError naming it."""
        values = json.loads(text)
        phase, training, validation = (values.pop(name) for name in ("phase", "training", "validation"))
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
            prompt=PromptSettings(**values.pop("prompt")),
            sampling=SamplingSettings(**values.pop("sampling")),
            betas=tuple(training.pop("betas")),
            **training,
            validation_updates=validation.pop("updates"),
            validation_samples=validation.pop("samples"),
            validation_sampling=SamplingSettings(**validation.pop("sampling")),
            **validation,
            **values,
        )

    def trajectory(self) -> dict:
        """The settings that change weights or metrics; where to stop, keep, save or validate does not."""
        free = {"last_update", "kept_updates", "optimizer_updates", "checkpoint_every", "max_gap_nats"}
        values = {k: v for k, v in self.__dict__.items() if k not in free and not k.startswith("validation")}
        return json.loads(json.dumps(values, default=lambda value: value.__dict__))


class Trainer:
    """One training job: a model, its optimizer, its data and its state folder."""

    def __init__(
        self, settings: TrainSettings, start: Path, train: Path, validation: list[Path], state: Path, code: list[Path]
    ) -> None:
        self.settings = settings
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.start = checkpoints.verify(start)
        self.problems = read_problems(train)
        self.validation = {path.stem: read_problems(path) for path in validation}
        if len(self.problems) < settings.prompts_per_update:
            raise ValueError(
                f"{train} has {len(self.problems)} problems, fewer than training.prompts_per_update "
                f"{settings.prompts_per_update}: lower it or give more problems"
            )
        self.state = state / fingerprint(settings, [start, train, *code])[:16]
        # validation changes no weights: its settings make its own records foreign, not the state
        self.records = {
            "metrics": self.state / "metrics",
            "validation": self.state / "validation" / validation_key(settings, validation)[:16],
        }
        for folder in (self.state / "checkpoints", *self.records.values()):
            folder.mkdir(parents=True, exist_ok=True)
        self.update = self._resume_point()
        if self.update < settings.first_update:
            folder = self.start
            moments = (folder / checkpoints.OPTIMIZER).is_file()
            if settings.first_update > 1 and moments != (settings.optimizer == "keep"):
                raise checkpoints.CheckpointError(
                    f"{start} does not fit the phase's `optimizer: {settings.optimizer}` (`keep` needs AdamW moments, "
                    "`fresh` none): make it again with reincarnate_policy"
                )
        else:
            remedy = "delete the folder and start the job again; it goes on from the checkpoint before"
            folder = checkpoints.verify(self._checkpoint(self.update) / checkpoints.MANIFEST, remedy)
        self.tokenizer = load_tokenizer(folder)
        self.prefix_id = prefix_token_id(self.tokenizer, settings.prompt.prefix_token)
        self.model = checkpoints.load_model(folder)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
        checkpoints.load_optimizer(folder, self.model, self.optimizer)
        self.sampler = build_sampler(settings.engine, self.model, self.tokenizer.eos_token_id)

    def _checkpoint(self, update: int) -> Path:
        return self.state / "checkpoints" / f"update{update:06d}"

    def _resume_point(self) -> int:
        """Latest update whose checkpoint stands and up to which every kept checkpoint, metric and validation stands."""
        s = self.settings
        for update in range(s.last_update, s.first_update - 1, -1):
            done = range(s.first_update, update + 1)
            if (
                self._checkpoint(update).is_dir()
                and all(self._record("metrics", u).is_file() for u in done)
                and all(self._checkpoint(u).is_dir() for u in s.kept_updates if u <= update)
                and all(self._record("validation", u).is_file() for u in self._validations() if u <= update)
            ):
                return update
        return s.first_update - 1

    def _validations(self) -> list[int]:
        s = self.settings
        first = 0 if s.first_update == 1 else s.first_update
        return [update for update in s.validation_updates if first <= update <= s.last_update]

    def _record(self, kind: str, update: int) -> Path:
        return self.records[kind] / f"update{update:06d}.json"

    def run(self, output: Path) -> None:
        """Train to the last update, then publish metrics, validation and kept checkpoints under `output`."""
        s = self.settings
        if self.update == 0 and 0 in self._validations():
            self._write("validation", 0, self.validate(0))
        while self.update < s.last_update:
            metrics = self.step(self.update + 1)
            self.update += 1
            self._write("metrics", self.update, metrics)
            if self.update in self._validations():
                self._write("validation", self.update, self.validate(self.update))
            if self.update in s.kept_updates or self.update % s.checkpoint_every == 0 or self.update == s.last_update:
                self._save()
            self._write_progress()
        if self.accelerator.is_main_process:
            self.publish(output)
        self.accelerator.wait_for_everyone()

    def step(self, update: int) -> dict:
        """One update of the policy; returns the row of metrics.parquet."""
        s = self.settings
        clock = Stopwatch()
        questions, problems = self.batch(update)
        prompts = encode_prompts(self.tokenizer, problems["problem"], s.prompt)
        graded = sample_and_grade(
            self.sampler,
            self.tokenizer,
            prompts,
            problems["answer"],
            [[sample_seed(s.seed, "train", update, q, i) for i in range(s.samples_per_prompt)] for q in questions],
            s.sampling,
            self.accelerator,
            clock,
        )
        measured = measure_spaces(
            self.model,
            graded,
            self.prefix_id,
            s.measured_samples_per_prompt,
            s.sampling.temperature,
            s.micro_batch_tokens,
        )
        if not measured["gap_mean"] <= s.max_gap_nats:
            raise RuntimeError(
                f"update {update}: sampler and trainer differ by {measured['gap_mean']:.3g} nats per token, more than "
                f"training.max_gap_nats {s.max_gap_nats}: look for stale weights or another precision in the "
                "sampler, or raise the limit; the state before this update is kept"
            )
        clock.lap("seconds_measuring")
        trained = self._train(graded)
        self.sampler.sync_weights(self.model)
        clock.lap("seconds_training")
        phase = {"update": update, "space": s.objective.space, "samples": s.objective.samples}
        return phase | update_metrics(graded) | measured | trained | clock.seconds()

    def _train(self, graded: GradedRollouts) -> dict:
        s = self.settings
        objective = s.objective
        responses = [rollout.token_ids for rollout in graded.rollouts]
        if not objective.eos_in_mask:
            responses = [
                rollout.token_ids[:-1] if rollout.finish_reason == "stop" else rollout.token_ids
                for rollout in graded.rollouts
            ]
        contexts = graded.contexts if objective.space == "posttrain" else [[self.prefix_id]] * len(responses)
        advantages_R = group_advantages(graded.rewards_R, graded.groups_R, objective.advantage_std)
        weights_R = row_weights(
            torch.tensor([len(response) for response in responses]),
            counting_rows(advantages_R, objective.samples),
            objective,
            [len(c) + len(r.token_ids) for c, r in zip(graded.contexts, graded.rollouts, strict=True)],
        )
        return policy_update(
            self.model,
            self.optimizer,
            self.accelerator,
            contexts,
            responses,
            advantages_R,
            weights_R,
            clip=(objective.clip_low, objective.clip_high),
            temperature=s.sampling.temperature,
            micro_batch_tokens=s.micro_batch_tokens,
            grad_clip=s.grad_clip,
        )

    def batch(self, update: int) -> tuple[list[str], dict[str, list[str]]]:
        """Question ids and problems of an update: a seeded permutation an epoch, the incomplete last batch dropped."""
        size = self.settings.prompts_per_update
        per_epoch = len(self.problems) // size
        epoch, index = divmod(update - 1, per_epoch)
        order = np.random.Generator(np.random.Philox(sample_seed(self.settings.seed, "order", epoch)))
        rows = order.permutation(len(self.problems))[index * size : (index + 1) * size]
        chosen = self.problems.take(pa.array(rows)).to_pydict()
        return chosen["id"], chosen

    def validate(self, update: int) -> list[dict]:
        """Rows of validation.parquet: avg@n of each validation benchmark under the current policy."""
        s = self.settings
        rows = []
        for name, table in self.validation.items():
            problems = table.to_pydict()
            graded = sample_and_grade(
                self.sampler,
                self.tokenizer,
                encode_prompts(self.tokenizer, problems["problem"], s.prompt),
                problems["answer"],
                [
                    [sample_seed(s.seed, "validation", name, update, q, i) for i in range(s.validation_samples)]
                    for q in problems["id"]
                ],
                s.validation_sampling,
                self.accelerator,
                Stopwatch(),
            )
            metrics = update_metrics(graded)
            rows.append(
                {
                    "update": update,
                    "benchmark": name,
                    "accuracy": metrics["reward_mean"],
                    "response_tokens_mean": metrics["response_tokens_mean"],
                    "truncation_rate": metrics["truncation_rate"],
                    "n_questions": len(problems["id"]),
                    "n_samples": s.validation_samples,
                }
            )
        return rows

    def _write(self, kind: str, update: int, value: object) -> None:
        if self.accelerator.is_main_process:
            checkpoints.write_json(self._record(kind, update), value)

    def _write_progress(self) -> None:
        s = self.settings
        if self.accelerator.is_main_process:
            progress = {"update": self.update, "first_update": s.first_update, "updates": s.last_update}
            checkpoints.write_json(self.state.parent / checkpoints.PROGRESS, progress)

    def _save(self) -> None:
        """Checkpoint of the current update; of those that nothing names only it and the one before stay."""
        if self.accelerator.is_main_process:
            progress = {"update": self.update, "seed": self.settings.seed}
            checkpoints.save_checkpoint(
                self._checkpoint(self.update), self.model, self.tokenizer, self.optimizer, progress
            )
            folders = sorted((self.state / "checkpoints").glob("update*"))
            for folder in folders[:-2]:
                if int(folder.name.removeprefix("update")) not in self.settings.kept_updates:
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()

    def publish(self, output: Path) -> None:
        """Write the outputs from the state, checkpoints/manifest.json last; states of other settings are removed."""
        s = self.settings
        for kind, updates in (
            ("metrics", list(range(s.first_update, s.last_update + 1))),
            ("validation", self._validations()),
        ):
            rows = [json.loads(self._record(kind, update).read_text()) for update in updates]
            if kind == "validation":
                rows = [row for several in rows for row in several]
            write_parquet(output / f"{kind}.parquet", table_of(rows))
        manifests = {}
        for update in s.kept_updates:
            source = checkpoints.verify(self._checkpoint(update) / checkpoints.MANIFEST)
            names = [path.name for path in source.iterdir() if path.name != checkpoints.MANIFEST]
            if update not in s.optimizer_updates:
                names = [name for name in names if name != checkpoints.OPTIMIZER]
            checkpoints.link_files(source, sorted(names), output / "checkpoints" / f"update{update:06d}")
            manifests[str(update)] = checkpoints.sha256_of(
                output / "checkpoints" / f"update{update:06d}" / checkpoints.MANIFEST
            )
        for other in self.state.parent.iterdir():
            if other.is_dir() and other != self.state:
                shutil.rmtree(other)
        checkpoints.write_json(output / "checkpoints" / checkpoints.MANIFEST, {"checkpoints": manifests})


class Stopwatch:
    """Seconds of the stages of an update: `lap(name)` ends a stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `name`."""
        now = time.perf_counter()
        self._laps[name] = self._laps.get(name, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Stages and their total, in seconds."""
        return self._laps | {"seconds_total": self._last - self._start}


def table_of(rows: list[dict]) -> pa.Table:
    """Rows as a table; a column without any value is float64 (no right sample ever: null log-probs)."""
    table = pa.Table.from_pylist(rows)
    fields = [field.with_type(pa.float64()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))


def validation_key(settings: TrainSettings, files: list[Path]) -> str:
    """Hex digest of all that decides a validation besides the policy: samples, sampling and question files."""
    parts = [settings.validation_samples, settings.validation_sampling.__dict__]
    parts += [[path.stem, checkpoints.sha256_of(path)] for path in files]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(settings: TrainSettings, files: list[Path]) -> str:
    """Hex digest of all that decides the trajectory: settings, start, data, code, library and Python versions."""
    parts = {
        "settings": settings.trajectory(),
        "files": [checkpoints.sha256_of(path) for path in files],
        "versions": [torch.__version__, transformers.__version__, np.__version__, platform.python_version()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
