"""What the workers of test_generation.py do; imports nothing heavy, so that they start fast."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from prerl.core.errors import UserError


class Task:
    """Does what it is told: writes a worker's own variables, fails, dies, sleeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> None:
        end = time.monotonic() + 60
        while name in ("fail", "bug", "die") and not self._sleeper_runs() and time.monotonic() < end:
            time.sleep(0.01)
        if name == "fail":
            raise UserError("task 7: the disk of node 3 is full")
        if name == "bug":
            raise ZeroDivisionError
        if name == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / name).write_text(str(os.getpid()))
        if name == "sleep":
            time.sleep(600)
        variables = {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
        (self.folder / f"worker{os.getpid()}").write_text(json.dumps(variables))
        while len(list(self.folder.glob("worker*"))) < 2:  # until the other worker has had a task too
            time.sleep(0.01)

    def _sleeper_runs(self) -> bool:
        sleeper = self.folder / "sleep"
        return sleeper.exists() and sleeper.read_text() != ""
