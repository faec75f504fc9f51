"""A long job in slices: it checkpoints and exits before SLURM's time limit, or on SIGTERM.

Its exit code is then not 0, so Snakemake's `retries` start it again and it resumes where it stopped.
SIGTERM comes from scancel and from a preemption, KillWait (30 s by default) before SIGKILL: an update that takes longer
is lost and the next attempt resumes from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from prerl.core.errors import UserError
from prerl.core.files import write_json

MARGIN_S = 30.0  # to write the checkpoint and to end; SLURM itself looks at its limits every 30 s
ATTEMPTS = 5  # in a row without a new checkpoint
QUESTIONS, PAUSE_S = 30, 10.0  # to a busy SLURM: five minutes cost less than the way through the queue


def slurm_end_s() -> float | None:
    """When SLURM's time limit ends this job, in seconds since 1970; None outside of SLURM.

    Asked of squeue, since SLURM before 23.02 has no variable for it: QUESTIONS times while it fails, PAUSE_S between.
    Raises UserError without an answer.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%e"]
    for _ in range(QUESTIONS):
        asked = subprocess.run(command, env=os.environ | {"SLURM_TIME_FORMAT": "%s"}, capture_output=True, text=True)
        if not asked.returncode:
            break
        time.sleep(PAUSE_S)
    if asked.returncode or not asked.stdout.strip().isdigit():
        raise UserError(
            f"`{' '.join(command)}` gives {asked.stdout + asked.stderr!r} and not the time when this job ends: squeue "
            "must work on the compute nodes; where the controller was only busy for long, start the job again"
        )
    return float(asked.stdout)


class Slice:
    """The time that this process has, from now to `end_s` (seconds since 1970; None: no end) or to SIGTERM."""

    def __init__(self, end_s: float | None) -> None:
        self.end_s = end_s
        self.signalled = False
        self.longest_s = 0.0
        self.last_s = time.time()
        signal.signal(signal.SIGTERM, self._note_signal)

    def _note_signal(self, _number: int, _frame: object) -> None:
        self.signalled = True

    def should_stop(self) -> bool:
        """Whether to save and end now; to be asked after every update.

        So it is where less is left than MARGIN_S and twice the longest time between two questions (the first counts
        from the start of the job): the next update may take longer, and a checkpoint be due.
        """
        now_s = time.time()
        self.longest_s = max(self.longest_s, now_s - self.last_s)
        self.last_s = now_s
        return self.signalled or (self.end_s is not None and now_s + 2 * self.longest_s + MARGIN_S > self.end_s)

    def end(self, update: int, last_update: int) -> None:
        """End the process after the checkpoint of `update`: by the signal if one came, otherwise by UserError."""
        where = f"update {update} of {last_update} is saved, the next attempt resumes there"
        if self.signalled:
            print(f"SIGTERM: {where}", flush=True)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        raise UserError(f"the time limit is near: {where}")


def count_attempt(file: Path, update: int) -> None:
    """Note in `file` that a job starts after `update`. Raises UserError after ATTEMPTS in a row that saved nothing new.

    So a fault that comes back every time, or a time limit shorter than one update, does not use up all retries.
    """
    before = json.loads(file.read_text()) if file.is_file() else {"update": -1, "attempts": 0}
    attempts = before["attempts"] + 1 if update <= before["update"] else 1
    if attempts > ATTEMPTS:
        raise UserError(
            f"{ATTEMPTS} jobs in a row ended before they saved an update after {update}: look into their logs (a time "
            f"limit shorter than one update? too little memory?), mend it, delete {file}, then start again"
        )
    write_json(file, {"update": update, "attempts": attempts})
