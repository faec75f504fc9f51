"""The state folder of a training job: checkpoints and records of its updates, from which it goes on and publishes.

The folder is no output of the workflow, so a failed or killed job loses nothing of it. All writes are atomic.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa

from prerl import checkpoints
from prerl.files import write_parquet
from prerl.train_settings import TrainSettings, fingerprint, validation_key


class TrainingState:
    """State of one run under `root`, in a folder named by all that decides its trajectory (`fingerprint`).

    update: the last update that stands whole; settings.first_update - 1 where nothing does.
    """

    def __init__(
        self, settings: TrainSettings, root: Path, start: Path, train: Path, validation: list[Path], code: list[Path]
    ) -> None:
        self.settings = settings
        self.root = root
        self.folder = root / fingerprint(settings, [start, train, *code])[:16]
        # validation changes no weights: its settings make its own records foreign, not the state
        self.records = {
            "metrics": self.folder / "metrics",
            "validation": self.folder / "validation" / validation_key(settings, validation)[:16],
        }
        for folder in (self.folder / "checkpoints", *self.records.values()):
            folder.mkdir(parents=True, exist_ok=True)
        self.update = self._resume_point()

    def checkpoint(self, update: int) -> Path:
        """Folder of the checkpoint after `update`."""
        return self.folder / "checkpoints" / f"update{update:06d}"

    def record(self, kind: str, update: int) -> Path:
        """File of the metrics or validation of `update`."""
        return self.records[kind] / f"update{update:06d}.json"

    def _resume_point(self) -> int:
        """Latest update whose checkpoint stands and up to which every kept checkpoint, metric and validation stands."""
        s = self.settings
        for update in range(s.last_update, s.first_update - 1, -1):
            done = range(s.first_update, update + 1)
            if (
                self.checkpoint(update).is_dir()
                and all(self.record("metrics", u).is_file() for u in done)
                and all(self.checkpoint(u).is_dir() for u in s.kept_updates if u <= update)
                and all(self.record("validation", u).is_file() for u in s.validations() if u <= update)
            ):
                return update
        return s.first_update - 1

    def start_folder(self, start: Path) -> Path:
        """The verified folder to load: the latest checkpoint, or `start`'s, if that fits the phase's optimizer."""
        s = self.settings
        if self.update >= s.first_update:
            remedy = "delete the folder and start the job again; it goes on from the checkpoint before"
            return checkpoints.verify(self.checkpoint(self.update) / checkpoints.MANIFEST, remedy)
        folder = checkpoints.verify(start)
        moments = (folder / checkpoints.OPTIMIZER).is_file()
        if s.first_update > 1 and moments != (s.optimizer == "keep"):
            raise checkpoints.CheckpointError(
                f"{start} does not fit the phase's `optimizer: {s.optimizer}` (`keep` needs AdamW moments, "
                "`fresh` none): make it again with reincarnate_policy"
            )
        return folder

    def write(self, kind: str, update: int, value: object) -> None:
        """Record the metrics or the validation of an update."""
        checkpoints.write_json(self.record(kind, update), value)

    def write_progress(self, update: int) -> None:
        """Say how far the run is, for whoever waits (show_progress)."""
        s = self.settings
        progress = {"update": update, "first_update": s.first_update, "updates": s.last_update}
        checkpoints.write_json(self.root / checkpoints.PROGRESS, progress)

    def save(self, update: int, model, tokenizer, optimizer) -> None:
        """Checkpoint of `update`; of those that nothing names only it and the one before stay."""
        progress = {"update": update, "seed": self.settings.seed}
        checkpoints.save_checkpoint(self.checkpoint(update), model, tokenizer, optimizer, progress)
        folders = sorted((self.folder / "checkpoints").glob("update*"))
        for folder in folders[:-2]:
            if int(folder.name.removeprefix("update")) not in self.settings.kept_updates:
                shutil.rmtree(folder)

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
            write_parquet(output / f"{kind}.parquet", table_of(rows))
        manifests = {}
        for update in s.kept_updates:
            source = checkpoints.verify(self.checkpoint(update) / checkpoints.MANIFEST)
            names = [path.name for path in source.iterdir() if path.name != checkpoints.MANIFEST]
            if update not in s.optimizer_updates:
                names = [name for name in names if name != checkpoints.OPTIMIZER]
            checkpoints.link_files(source, sorted(names), output / "checkpoints" / f"update{update:06d}")
            manifests[str(update)] = checkpoints.sha256_of(
                output / "checkpoints" / f"update{update:06d}" / checkpoints.MANIFEST
            )
        for other in self.root.iterdir():
            if other.is_dir() and other != self.folder:
                shutil.rmtree(other)
        checkpoints.write_json(output / "checkpoints" / checkpoints.MANIFEST, {"checkpoints": manifests})


def table_of(rows: list[dict]) -> pa.Table:
    """Rows as a table; a column without any value is float64 (no right sample ever: null log-probs)."""
    table = pa.Table.from_pylist(rows)
    fields = [field.with_type(pa.float64()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))
