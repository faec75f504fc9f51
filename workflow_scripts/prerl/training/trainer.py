"""The trainer: one loop for every method, both spaces and all scales.

An update samples responses, grades them, scores the rows that the loss needs in the phase's space, and takes one
strictly on-policy AdamW step (official: batch = mini-batch, so the PPO ratio is 1). Randomness is a function of (seed,
update, prompt, sample) only, so resuming or handing over needs no generator state. State goes to a folder that is not
an output of the workflow; the outputs appear after the last update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from prerl.core.errors import UserError
from prerl.core.files import read_problems
from prerl.models.prompts import encode_prompts
from prerl.models.sharding import start_processes
from prerl.objectives import spaces
from prerl.objectives.advantages import control_rewards, gae_advantages, outcome_advantages
from prerl.objectives.objective import Objective
from prerl.objectives.token_mean import loss_rows, row_weights
from prerl.rollouts.graded import GradedRollouts, Rules, sample_and_grade, update_metrics
from prerl.rollouts.interface import sample_seed
from prerl.training.build import build_learner
from prerl.training.critic import Critic
from prerl.training.settings import TrainSettings
from prerl.training.state import TrainingState
from prerl.training.tracking import TrackerSettings, Tracking
from prerl.training.updates import measure_spaces, policy_update

SHOWN_PROMPTS = 4  # of an update, for watch.py
NOTHING_TRAINED = {"loss": 0.0, "grad_norm": 0.0, "clip_fraction": 0.0, "tokens_trained": 0, "rows_trained": 0}
"""Metrics of the policy in an update that trains the critic alone."""


class Trainer:
    """One training job: a learner, its data and its state folder."""

    def __init__(
        self,
        settings: TrainSettings,
        start: Path,
        train: Path,
        validation: list[Path],
        state: Path,
        code: list[Path],
        tracker: TrackerSettings | None = None,
    ) -> None:
        self.settings = settings
        self.accelerator = start_processes()
        self.problems = read_problems(train)
        self.validation = {path.stem: read_problems(path) for path in validation}
        if len(self.problems) < settings.update.prompts_per_update:
            raise UserError(
                f"{train} has {len(self.problems)} problems, fewer than training.prompts_per_update "
                f"{settings.update.prompts_per_update}: lower it or give more problems"
            )
        with self.accelerator.main_process_first():
            main = self.accelerator.is_main_process
            self.state = TrainingState(settings, state, start, train, validation, code, main)
        self.tracking = Tracking(tracker, self.state) if tracker and self.accelerator.is_main_process else None
        self.update = self.state.update
        folder = self.state.start_folder(start)
        resumed = self.update >= settings.first_update
        self.learner = build_learner(settings, self.accelerator, folder, start.parent, resumed)
        self.rules = Rules.of(settings.reward, settings.thoughts, self.learner.tokenizer)

    def run(self, output: Path, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the last update, then publish metrics, validation and kept checkpoints under `output`.

        should_stop: asked after every update; if true on any rank, all ranks checkpoint and exit. Returns whether all
        updates are done.
        """
        s = self.settings
        main = self.accelerator.is_main_process
        if self.update == 0 and 0 in s.validations():
            self._record("validation", self.validate(0))
        while self.update < s.last_update:
            metrics = self.step(self.update + 1)
            self.update += 1
            self._record("metrics", metrics)
            if self.update in s.validations():
                self._record("validation", self.validate(self.update))
            last = self.update == s.last_update
            stop = self._on_any_rank(should_stop()) and not last
            if self.update in s.kept_updates or self.update % s.update.checkpoint_every == 0 or last or stop:
                self.state.save(self.update, self.learner, self.accelerator)
                self.accelerator.wait_for_everyone()
                self._track(finish=stop)
            if main:
                self.state.write_progress(self.update, metrics["reward_mean"])
            if stop:
                return False
        if main:
            self._track(finish=True)
            self.state.publish(output)
        self.accelerator.wait_for_everyone()
        return True

    def _track(self, finish: bool) -> None:
        if self.tracking is not None:
            self.tracking.send(self.update)
            if finish:
                self.tracking.finish()

    def _on_any_rank(self, value: bool) -> bool:
        flag = torch.tensor(int(value), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum"))

    def _record(self, kind: str, value: object) -> None:
        if self.accelerator.is_main_process:
            self.state.write(kind, self.update, value)

    def step(self, update: int) -> dict:
        """One update of the policy; returns the row of metrics.parquet."""
        s = self.settings
        clock = Stopwatch()
        problems = self.batch(update)
        prompts = encode_prompts(self.learner.tokenizer, [row["problem"] for row in problems], s.prompt)
        graded = sample_and_grade(
            self.learner.sampler,
            self.learner.tokenizer,
            prompts,
            problems,
            [
                [sample_seed(s.seed, "train", update, row["id"], i) for i in range(s.samples_per_prompt)]
                for row in problems
            ],
            s.sampling,
            self.rules,
            self.accelerator,
            clock,
        )
        measured = measure_spaces(
            self.learner.model,
            self.accelerator,
            graded,
            self.learner.prefix_id,
            s.update.measured_samples_per_prompt,
            s.sampling.temperature,
            s.update.micro_batch_tokens,
        )
        sampled = update_metrics(graded)
        refuse_non_finite(update, sampled | measured)
        if measured["gap_mean"] > s.update.max_gap_nats:
            raise UserError(
                f"update {update}: sampler and trainer differ by {measured['gap_mean']:.3g} nats per token, more than "
                f"training.max_gap_nats {s.update.max_gap_nats}: look for stale weights or another precision in the "
                "sampler, or raise the limit; the state before this update is kept"
            )
        clock.lap("seconds_measuring")
        try:
            trained = self._train(graded, update)
        except FloatingPointError as error:
            raise UserError(f"update {update}: {error}") from None
        self.learner.sampler.sync_weights(self.learner.model)
        clock.lap("seconds_training")
        if self.accelerator.is_main_process:
            self.state.write_answers(update, self._shown(problems, graded))
        phase = {"update": update, "space": s.objective.space, "samples": s.objective.samples}
        return phase | sampled | measured | trained | clock.seconds()

    def _shown(self, problems: list[dict], graded: GradedRollouts) -> list[dict]:
        """The first answer to each of the first SHOWN_PROMPTS problems of an update."""
        rows = list(range(0, len(graded.rollouts), self.settings.samples_per_prompt))[:SHOWN_PROMPTS]
        ids = [graded.rollouts[row].token_ids for row in rows]
        texts = self.learner.tokenizer.batch_decode(ids, skip_special_tokens=True)
        rewards = graded.rewards_R[rows].tolist()
        return [
            {"problem": problem["problem"], "text": text, "reward": reward}
            for problem, text, reward in zip(problems[:SHOWN_PROMPTS], texts, rewards, strict=True)
        ]

    def _train(self, graded: GradedRollouts, update: int) -> dict:
        s = self.settings
        objective = s.objective
        responses = [rollout.token_ids for rollout in graded.rollouts]
        if not objective.eos_in_mask:
            responses = [
                rollout.token_ids[:-1] if rollout.finish_reason == "stop" else rollout.token_ids
                for rollout in graded.rollouts
            ]
        contexts = spaces.contexts(objective.space, graded.contexts, self.learner.prefix_id)
        critic = self.learner.critic
        if critic is None:
            tokens_R = [len(response) for response in responses]
            seed = sample_seed(s.seed, "rewards", update)
            rewards_R = control_rewards(objective.rewards, graded.rewards_R, graded.groups_R, seed)
            advantages = outcome_advantages(objective, rewards_R, graded.groups_R, tokens_R)
            valued: dict[str, float | None] = {}
        else:
            advantages, valued = self._train_critic(critic, graded, contexts, responses)
            if critic.updates() <= critic.settings.warmup_updates:
                return NOTHING_TRAINED | valued
        weights_R = token_mean_weights(graded, responses, advantages, objective)
        trained = policy_update(
            self.learner.model,
            self.learner.optimizer,
            self.accelerator,
            contexts,
            responses,
            advantages,
            weights_R,
            clip=(objective.clip_low, objective.clip_high),
            temperature=s.sampling.temperature,
            micro_batch_tokens=s.update.micro_batch_tokens,
            grad_clip=s.update.grad_clip,
        )
        return trained | valued

    def _train_critic(
        self, critic: Critic, graded: GradedRollouts, contexts: list[list[int]], responses: list[list[int]]
    ) -> tuple[list[torch.Tensor], dict]:
        """Advantages by token under the critic as it stands, and the metrics of its update on the same batch."""
        objective = replace(self.settings.objective, coefficient=1.0)
        values = critic.values(contexts, responses)
        advantages, returns = gae_advantages(graded.rewards_R, values, objective.gamma, objective.lam)
        weights_R = token_mean_weights(graded, responses, advantages, objective)
        return advantages, critic.update(contexts, responses, values, returns, weights_R)

    def batch(self, update: int) -> list[dict]:
        """Problems of an update: a seeded permutation an epoch, the incomplete last batch dropped."""
        size = self.settings.update.prompts_per_update
        per_epoch = len(self.problems) // size
        epoch, index = divmod(update - 1, per_epoch)
        order = np.random.Generator(np.random.Philox(sample_seed(self.settings.seed, "order", epoch)))
        rows = order.permutation(len(self.problems))[index * size : (index + 1) * size]
        return self.problems.take(pa.array(rows)).to_pylist()

    def validate(self, update: int) -> list[dict]:
        """Rows of validation.parquet: mean reward, avg@n if it is 0 or 1, of each benchmark, sampled together."""
        s = self.settings
        samples = s.validation.samples_per_question
        problems = [(name, row) for name, table in self.validation.items() for row in table.to_pylist()]
        graded = sample_and_grade(
            self.learner.sampler,
            self.learner.tokenizer,
            encode_prompts(self.learner.tokenizer, [row["problem"] for _, row in problems], s.prompt),
            [row for _, row in problems],
            [
                [sample_seed(s.seed, "validation", name, update, row["id"], i) for i in range(samples)]
                for name, row in problems
            ],
            s.validation.sampling,
            self.rules,
            self.accelerator,
            Stopwatch(),
        )
        rows = []
        first = 0
        for name, table in self.validation.items():
            metrics = update_metrics(graded.of_prompts(first, len(table)))
            first += len(table)
            rows.append(
                {
                    "update": update,
                    "benchmark": name,
                    "accuracy": metrics["reward_mean"],
                    "response_tokens_mean": metrics["response_tokens_mean"],
                    "truncation_rate": metrics["truncation_rate"],
                    "n_questions": len(table),
                    "n_samples": samples,
                }
            )
        return rows


def token_mean_weights(
    graded: GradedRollouts,
    responses: list[list[int]],
    advantages: torch.Tensor | list[torch.Tensor],
    objective: Objective,
) -> torch.Tensor:
    """Weight of every token of a row in the loss, float64 [R]. responses: as trained on, perhaps without EOS."""
    return row_weights(
        torch.tensor([len(response) for response in responses]),
        loss_rows(advantages, objective.samples),
        objective,
        [len(c) + len(r.token_ids) for c, r in zip(graded.contexts, graded.rollouts, strict=True)],
    )


def refuse_non_finite(update: int, metrics: dict[str, float | None]) -> None:
    """Raises UserError if a reward or log-prob of the update's samples is not finite (None: no such sample)."""
    for name, value in metrics.items():
        if value is not None and not math.isfinite(value):
            raise UserError(
                f"update {update}: {name} is {value}: no step was taken and the state before it is kept; lower "
                "training.learning_rate, or look at the starting policy where this is the first update"
            )


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
