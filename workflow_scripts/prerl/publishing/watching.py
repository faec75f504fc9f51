"""What a run that goes on has done so far, read from its state folders: jobs, curves, answers of the last update."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prerl.publishing.browser import visible
from prerl.publishing.labels import BLACK, BLUE, GREY, ORANGE, QUANTITIES, VERMILLION, line
from prerl.publishing.series import series_of

WATCHED = ("reward_mean", "response_tokens_mean", "entropy_nats", "reflections_per_answer")
LOOKS = [(BLACK, "-", "o"), (VERMILLION, "--", "s"), (BLUE, ":", "^"), (ORANGE, "-.", "D"), (GREY, "-", "x")]
LOG_BYTES = 1 << 17  # of the end of a log
STILL_S = 120  # a run that has written nothing for so long is not shown as running


@dataclass(frozen=True)
class RunState:
    """The state folder of one training run, state/{model}/{method}/seed{n}."""

    folder: Path

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.folder.parts[-3]

    @property
    def name(self) -> str:
        """As 'dsrl, seed 11'."""
        return f"{self.folder.parts[-2]}, seed {self.folder.name.removeprefix('seed')}"


def training_runs(state: Path) -> Iterator[RunState]:
    """Runs that have a progress.json under results/{scale}/state."""
    for file in sorted(state.glob("*/*/seed*/progress.json")):
        yield RunState(file.parent)


def updates_of(run: RunState) -> list[dict]:
    """Metrics of each update of a run, of the folder written last (settings that changed have another)."""
    folders = [folder for folder in run.folder.glob("*/metrics") if any(folder.glob("update*.json"))]
    if not folders:
        return []
    newest = max(folders, key=lambda folder: folder.stat().st_mtime)
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(newest.glob("update*.json"))]


def jobs_done(log: Path) -> str:
    """'52 of 119 jobs' by the last such line of Snakemake's log (show_progress.py keeps it); '' without one."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LOG_BYTES, 0))
        found = re.findall(r"(\d+) of (\d+) steps", file.read().decode("utf-8", "replace"))
    return f"{found[-1][0]} of {found[-1][1]} jobs" if found else ""


def situation(results: Path) -> dict:
    """All that the page of `make watch` shows."""
    runs: list[dict] = []
    panels: dict[str, list[dict]] = {name: [] for name in WATCHED}
    now = time.time()
    for index, run in enumerate(training_runs(results / "state")):
        progress_file = run.folder / "progress.json"
        progress = json.loads(progress_file.read_text(encoding="utf-8"))
        age_s = now - progress_file.stat().st_mtime
        ended = progress["update"] >= progress["updates"]
        runs.append(
            {
                "name": run.name,
                "model": run.model,
                "update": progress["update"],
                "updates": progress["updates"],
                "reward": round(progress["reward"], 3),
                "state": "done" if ended else "running" if age_s < STILL_S else f"nothing for {age_s / 60:.0f} min",
            }
        )
        updates = updates_of(run)
        for name in WATCHED:
            look = line(*LOOKS[index % len(LOOKS)])
            values = [update[name] for update in updates]
            panels[name].append(series_of("line", run.name, look, [u["update"] for u in updates], values))
    return {
        "jobs": jobs_done(results / "logs/snakemake.log"),
        "runs": runs,
        "panels": [
            {"title": QUANTITIES[name], "x": "Update", "y": "", "log_x": False, "ticks": None, "series": series}
            for name, series in panels.items()
        ],
        "samples": samples(results / "state"),
    }


def samples(state: Path) -> list[dict]:
    """The answers that the runs kept of their last update, those written last first."""
    files = sorted(state.glob("*/*/seed*/last_answers.json"), key=lambda file: -file.stat().st_mtime)
    found = []
    for file in files[:4]:
        last = json.loads(file.read_text(encoding="utf-8"))
        run = RunState(file.parent)
        answers = [
            {"problem": visible(one["problem"]), "text": visible(one["text"]), "reward": one["reward"]}
            for one in last["answers"]
        ]
        found.append({"name": run.name, "update": last["update"], "answers": answers})
    return found
