"""A training job's metrics in TensorBoard, Weights & Biases or MLflow, by accelerate's trackers.

They are sent with each checkpoint, from the records of the state: what a checkpoint holds is done once, so no step
comes twice, and the values are those of metrics.parquet. A resumed job continues the run with the same id. (Only where
a checkpoint is damaged and updates are done again do the first values stay.)
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import is_mlflow_available, is_tensorboard_available, is_wandb_available

from prerl.core.errors import UserError
from prerl.core.files import write_json
from prerl.training.state import TrainingState

PROJECT = "prerl"
NAMES = {
    "prompts_solved": "reward/prompts_solved",
    "prompts_unsolved": "reward/prompts_unsolved",
    "prompts_any_solved": "reward/prompts_any_solved",
    "truncation_rate": "completions/clipped_ratio",
    "response_tokens_mean": "completions/mean_length",
    "tokens_sampled": "completions/tokens",
    "prompt_tokens": "prompts/tokens",
    "reflections_per_answer": "completions/reflections",
    "transitions_per_answer": "completions/transitions",
    "entropy_nats": "entropy",
    "clip_fraction": "clip_ratio/region_mean",
    "gap_mean": "sampling/sampling_logp_difference/mean",
    "gap_max": "sampling/sampling_logp_difference/max",
    "tokens_trained": "train/tokens",
    "rows_trained": "train/rows",
    "value_loss": "critic/vf_loss",
    "value_grad_norm": "critic/grad_norm",
    "value_explained_variance": "critic/vf_explained_var",
}
"""Column of metrics.parquet -> its name in trl, or else in verl, or of that kind; `loss` and `grad_norm` are theirs."""
PREFIXES = {"seconds_": "timing_s/", "reward_": "reward/", "logp_": "logp/"}
AVAILABLE: dict[str, Callable[[], bool]] = {
    "tensorboard": is_tensorboard_available,
    "wandb": is_wandb_available,
    "mlflow": is_mlflow_available,
}
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


@dataclass(frozen=True)
class TrackerSettings:
    """name: of the tracker; folder: for what it writes; run: name of the run."""

    name: str
    folder: str
    run: str


def tracked_name(column: str) -> str:
    """Name of a column of metrics.parquet in a tracker.

    >>> [tracked_name(column) for column in ("reward_mean", "seconds_sampling", "grad_norm")]
    ['reward/mean', 'timing_s/sampling', 'grad_norm']
    """
    for prefix, written in PREFIXES.items():
        if column.startswith(prefix):
            return written + column.removeprefix(prefix)
    return NAMES.get(column, column)


def tracked_values(metrics: dict | None, validation: list[dict]) -> dict[str, float]:
    """What is sent of an update: the numbers of its record, and `eval/{benchmark}/{column}` of its validation."""
    numbers = {tracked_name(column): value for column, value in (metrics or {}).items() if column != "update"}
    for row in validation:
        for column in ("accuracy", "response_tokens_mean", "truncation_rate"):
            numbers[f"eval/{row['benchmark']}/{NAMES.get(column, column).split('/')[-1]}"] = row[column]
    return {name: value for name, value in numbers.items() if isinstance(value, (int, float))}


class Tracking:
    """The tracker of a job's main process. sent: last update that it has.

    Raises UserError if the tracker's package, or the address of its service, is missing.
    """

    def __init__(self, settings: TrackerSettings, state: TrainingState) -> None:
        name = settings.name
        if not AVAILABLE[name]():
            raise UserError(
                f"training.tracker: {name} needs a package that this environment lacks: `pip install {PACKAGES[name]}` "
                "(a job of --sdm conda: add it to envs/train.yaml), or set it to none"
            )
        if name == "mlflow" and "MLFLOW_TRACKING_URI" not in os.environ:
            raise UserError(
                "training.tracker: mlflow needs the environment variable MLFLOW_TRACKING_URI: set it to the address of "
                "your server, or to sqlite:///FILE where one job runs at a time"
            )
        self.settings, self.state = settings, state
        self.file = state.folder / f"tracking_{name}.json"
        before = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.sent: int = before.get("sent", state.settings.first_update - 2)  # -1: update 0 has a validation
        self.run_id: str | None = before.get("run_id")
        self.tracker: Any = None
        if name != "tensorboard":  # which needs no service that could refuse
            self._open()

    def _open(self) -> None:
        if self.tracker is None:
            self.tracker, self.run_id = start(self.settings, self.state.folder.name, self.run_id, self.sent + 1)

    def send(self, update: int) -> None:
        """Send the updates up to `update`, which has a checkpoint, if they are not sent."""
        if update <= self.sent:
            return
        self._open()
        for number in range(self.sent + 1, update + 1):
            metrics, validation = self.state.record("metrics", number), self.state.record("validation", number)
            values = tracked_values(
                json.loads(metrics.read_text()) if metrics.is_file() else None,
                json.loads(validation.read_text()) if validation.is_file() else [],
            )
            if values:
                self.tracker.log(values, step=number)
        if self.settings.name == "tensorboard":
            self.finish()  # a kill would lose what its thread has not written; the next send begins another file
        self.sent = update
        write_json(self.file, {"sent": self.sent, "run_id": self.run_id})

    def finish(self) -> None:
        """Close the run, when the job ends or is to be resumed."""
        if self.tracker is not None:
            self.tracker.finish()
            self.tracker = None


def start(settings: TrackerSettings, state: str, run_id: str | None, step: int) -> tuple[Any, str]:
    """accelerate's tracker of a new run, or of the one with `run_id`, and its id.

    state: name of the state's folder, the id where one may be chosen; step: the first that will be sent.
    """
    folder = Path(settings.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    trackers = importlib.import_module("accelerate.tracking")
    if settings.name == "mlflow":
        tracker = trackers.MLflowTracker(PROJECT, run_id=run_id, run_name=settings.run)
        tracker.start()
        return tracker, tracker.tracker.info.run_id
    if settings.name == "wandb":
        mode = os.environ.get("WANDB_MODE", "offline")  # compute nodes may have no network
        options = {"id": state, "resume": "allow", "dir": folder, "mode": mode, "name": settings.run}
        tracker = trackers.WandBTracker(PROJECT, **options)
    else:
        run, suffix = f"tensorboard/{settings.run}_{state[:8]}", f".{max(step, 0):06d}"
        tracker = trackers.TensorBoardTracker(run, folder, filename_suffix=suffix)
    tracker.start()
    return tracker, state
