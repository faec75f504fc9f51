"""Training jobs as processes of their own: their arguments, their ends, what must be equal."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq

from prerl.core.hashes import sha256_of
from tiny_training import Workshop, metrics, next_ids

ONE_AT_A_TIME = threading.Lock()  # transformers loads models in one thread only


SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


class Training:
    """A training job of the shop: its arguments, and what must be equal at its end."""

    def __init__(self, shop: Workshop, settings: dict, start: Path | None = None) -> None:
        self.shop, self.settings, self.start = shop, settings, start or shop.base

    def arguments(self, folder: Path) -> list[str]:
        shop = self.shop
        pairs = {"--settings": [json.dumps(self.settings)], "--code": [shop.code], "--start": [self.start]}
        pairs |= {"--train": [shop.train], "--validation": shop.validation}
        pairs |= {"--state": [folder / "state"], "--output": [folder / "output"]}
        return [str(part) for name, values in pairs.items() for part in (name, *values)]

    def results(self, folder: Path) -> dict:
        """Weights, moments, metrics, validation and the ids sampled next."""
        output = folder / "output"
        published = [output / f"checkpoints/update{update:06d}" for update in self.settings["kept_updates"]]
        files = [path for checkpoint in published for path in sorted(checkpoint.iterdir())]
        with ONE_AT_A_TIME:
            trainer = self.shop.trainer(folder.name, self.settings, start=self.start)
            assert trainer.update == 6
            sampled = next_ids(trainer, 7)
        return {
            "files": {str(path.relative_to(output)): sha256_of(path) for path in files},
            "metrics": metrics(output),
            "validation": pq.read_table(output / "validation.parquet").to_pylist(),
            "next": sampled,
        }


def updates_done(folder: Path) -> list[int]:
    return [int(line) for line in Path(f"{folder}.updates").read_text().split()]


def start_script(training: Training, folder: Path) -> subprocess.Popen:
    """The script in a process of its own, as the rule starts it."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPTS / "train_policy.py"), *training.arguments(folder)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_for_update(process: subprocess.Popen, folder: Path, update: int) -> None:
    progress = folder / "state/progress.json"
    while not (progress.is_file() and json.loads(progress.read_text())["update"] >= update):
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
