"""The state folder of a training job: checkpoints and records of its updates, from which it resumes and publishes.

The folder is not an output of the workflow, so a failed or killed job keeps it. Writes are atomic, one process at a
time may write, and a damaged checkpoint costs the updates since the previous one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
from accelerate import Accelerator

from prerl.core.files import delete, lock_folder, remove_folder, write_json, write_parquet
from prerl.core.hashes import sha256_of
from prerl.models import checkpoints
from prerl.models.training_checkpoints import save_checkpoint
from prerl.training.build import Learner
from prerl.training.settings import TrainSettings, fingerprint, validation_key


class TrainingState:
    """State of one run under `root`, in a folder named by all that decides its trajectory (`fingerprint`).

    update: the last complete update; settings.first_update - 1 if there is none. Of several ranks `main` comes first:
    it alone locks `root`, repairs and writes. Raises FolderInUseError if another job holds it.
    """

    def __init__(
        self,
        settings: TrainSettings,
        root: Path,
        start: Path,
        train: Path,
        validation: list[Path],
        code: list[Path],
        main: bool = True,
    ) -> None:
        self.settings = settings
        self.root = root
        self.lock = lock_folder(root) if main else None
        self.run = fingerprint(settings, [start, train])[:16]
        self.folder = root / fingerprint(settings, [start, train, *code])[:16]
        # validation changes no weights: its settings make its own records foreign, not the state
        self.records = {
            "metrics": self.folder / "metrics",
            "validation": self.folder / "validation" / validation_key(settings, validation)[:16],
        }
        for folder in (self.folder / "checkpoints", *self.records.values()):
            folder.mkdir(parents=True, exist_ok=True)
        if main:
            self._repair()
        self.update = self._resume_point()

    def checkpoint(self, update: int) -> Path:
        """Folder of the checkpoint after `update`."""
        return self.folder / "checkpoints" / f"update{update:06d}"

    def record(self, kind: str, update: int) -> Path:
        """File of the metrics or validation of `update`."""
        return self.records[kind] / f"update{update:06d}.json"

    def _repair(self) -> None:
        """Delete leftovers of killed writers and each damaged checkpoint that the resume point needs, and print which.

        An OSError while reading (a file server that fails for a moment) ends the job and removes nothing.
        """
        s = self.settings
        for folder in (self.root, self.folder / "checkpoints", *self.records.values()):
            for leftover in list(folder.glob(".*.tmp*")):
                delete(leftover)
        before = update = self._resume_point()
        sound: set[int] = set()
        while needed := {u for u in (*s.kept_updates, update) if s.first_update <= u <= update} - sound:
            for number in sorted(needed):
                try:
                    self._verify(number)
                except checkpoints.CheckpointError as error:
                    print(error, flush=True)
                    remove_folder(self.checkpoint(number))
            sound |= needed
            update = self._resume_point()
        if update < before:
            source = f"the checkpoint of update {update}" if update >= s.first_update else "the start of the phase"
            print(f"Resuming from {source}: updates {update + 1} to {before} are done again", flush=True)

    def _verify(self, update: int) -> None:
        """Raises CheckpointError if the checkpoint of `update` is damaged or of another run."""
        remedy = "the checkpoint is removed"
        folder = checkpoints.verify(self.checkpoint(update) / checkpoints.MANIFEST, remedy)
        file = folder / checkpoints.PROGRESS
        found, expected = json.loads(file.read_text()) if file.is_file() else None, self._progress(update)
        if found != expected:
            raise checkpoints.CheckpointError(
                f"{folder} is of another run ({checkpoints.PROGRESS} holds {found}, not {expected}): {remedy}"
            )

    def _progress(self, update: int) -> dict:
        """What a checkpoint says of itself."""
        return {"update": update, "seed": self.settings.seed, "run": self.run}

    def _resume_point(self) -> int:
        """Latest update with a checkpoint, up to which every kept checkpoint, metric and validation is there."""
        s = self.settings
        for update in range(s.last_update, s.first_update - 1, -1):
            done = range(s.first_update, update + 1)
            if (
                self._resumable(update)
                and all(self.record("metrics", u).is_file() for u in done)
                and all(self.checkpoint(u).is_dir() for u in s.kept_updates if u <= update)
                and all(self.record("validation", u).is_file() for u in s.validations() if u <= update)
            ):
                return update
        return s.first_update - 1

    def _resumable(self, update: int) -> bool:
        """Whether the checkpoint of `update` is there, and with moments where `save` may have taken them away."""
        s, folder = self.settings, self.checkpoint(update)
        if not folder.is_dir():
            return False
        if s.update.keep_checkpoints or update not in s.kept_updates or update in s.optimizer_updates:
            return True
        names = [path.name for path in folder.iterdir()]
        moments = (checkpoints.OPTIMIZER, checkpoints.CRITIC_OPTIMIZER)  # the critic's alone in its warm-up
        return any(checkpoints.parts_of(file, names) for file in moments)

    def start_folder(self, start: Path) -> Path:
        """The verified folder to load: the latest checkpoint, or `start`'s, if that fits the phase's optimizer."""
        s = self.settings
        if self.update >= s.first_update:
            return self.checkpoint(self.update)  # verified by _repair
        folder = checkpoints.verify(start)
        moments = bool(checkpoints.parts_of(checkpoints.OPTIMIZER, [path.name for path in folder.iterdir()]))
        if s.first_update > 1 and moments != (s.optimizer == "keep"):
            raise checkpoints.CheckpointError(
                f"{start} does not fit the phase's `optimizer: {s.optimizer}` (`keep` needs AdamW moments, "
                "`fresh` none): make it again with reincarnate_policy"
            )
        return folder

    def write(self, kind: str, update: int, value: object) -> None:
        """Record the metrics or the validation of an update."""
        write_json(self.record(kind, update), value)

    def write_progress(self, update: int, reward: float) -> None:
        """Record how far the run is and the mean reward of its last update (for show_progress)."""
        s = self.settings
        progress = {"update": update, "first_update": s.first_update, "updates": s.last_update, "reward": reward}
        write_json(self.root / checkpoints.PROGRESS, progress)

    def write_answers(self, update: int, answers: list[dict]) -> None:
        """Keep some answers of the last update in place of those before it (for watch.py)."""
        write_json(self.root / "last_answers.json", {"update": update, "answers": answers})

    def save(self, update: int, learner: Learner, accelerator: Accelerator) -> None:
        """Checkpoint of `update`, a collective; of earlier ones that nothing refers to only the last is kept.

        With `keep_checkpoints: false`, those that are published without moments lose them, but for the last. All that
        goes first, so that no more than two whole ones are on disk, the one that is written included.

        Later ones are of a trajectory that this one replaces: they can be neither resumed from nor evict this one's
        predecessor.
        """
        folders = sorted((self.folder / "checkpoints").glob("update*")) if accelerator.is_main_process else []
        numbers = {folder: int(folder.name.removeprefix("update")) for folder in folders}
        for folder in folders:
            if numbers[folder] > update:
                remove_folder(folder)
        for folder in [folder for folder in folders if numbers[folder] < update][:-1]:
            if numbers[folder] not in self.settings.kept_updates:
                remove_folder(folder)
            elif not self.settings.update.keep_checkpoints and self._resumable(numbers[folder]):
                checkpoints.link_files(folder, self._published(folder, numbers[folder]), folder)
        save_checkpoint(
            self.checkpoint(update),
            learner.model,
            learner.tokenizer,
            learner.optimizer,
            self._progress(update),
            accelerator,
            learner.critic,
        )

    def publish(self, output: Path) -> None:
        """Write the outputs from the state, checkpoints/manifest.json last; states of other settings are removed."""
        s = self.settings
        for kind, updates in (
            ("metrics", list(range(s.first_update, s.last_update + 1))),
            ("validation", s.validations()),
        ):
            rows = [json.loads(self.record(kind, update).read_text()) for update in updates]
            if kind == "validation":
                rows = [row for several in rows for row in several]
            elif not any(row["rows_trained"] for row in rows):
                print(
                    f"Nothing was trained: no update of {s.first_update} to {s.last_update} had a row in its loss, "
                    "since the answers to each problem were all right or all wrong; the weights moved by decay and "
                    "kept moments alone",
                    flush=True,
                )
            write_parquet(output / f"{kind}.parquet", table_of(rows))
        manifests = {}
        for update in s.kept_updates:
            remedy = "start the job again, it makes this checkpoint again"
            source = checkpoints.verify(self.checkpoint(update) / checkpoints.MANIFEST, remedy)
            names = self._published(source, update)
            checkpoints.link_files(source, names, output / "checkpoints" / f"update{update:06d}")
            manifests[str(update)] = sha256_of(output / "checkpoints" / f"update{update:06d}" / checkpoints.MANIFEST)
        for other in self.root.iterdir():
            if other.is_dir() and other != self.folder:
                delete(other)
        write_json(output / "checkpoints" / checkpoints.MANIFEST, {"checkpoints": manifests})

    def _published(self, checkpoint: Path, update: int) -> list[str]:
        """Files of a kept checkpoint that others read: weights and tokenizer, and moments where a phase continues."""
        names = {path.name for path in checkpoint.iterdir()} - {checkpoints.MANIFEST}
        private = [checkpoints.CRITIC, checkpoints.CRITIC_OPTIMIZER]
        if update not in self.settings.optimizer_updates:
            private.append(checkpoints.OPTIMIZER)
        return sorted(names - {part for file in private for part in checkpoints.parts_of(file, names)})


def table_of(rows: list[dict]) -> pa.Table:
    """Rows of equal keys as a table; a column without any value is float64 (no right sample ever: null log-probs)."""
    table = pa.Table.from_pylist(rows)
    fields = [field.with_type(pa.float64()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))
