"""Train the last phase of a method: one resumable job (rule train_policy), under SLURM in slices of the time limit."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.training.time_limit import Slice, count_attempt, slurm_end_s


def main() -> None:
    # imported here, not above: every worker of a reward function imports this file again and needs none of it
    from prerl.models.sharding import end_processes
    from prerl.training.settings import TrainSettings
    from prerl.training.tracking import TrackerSettings
    from prerl.training.trainer import Trainer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON, see prerl.training.settings.TrainSettings")
    parser.add_argument("--code", nargs="+", type=Path, required=True, help="files whose edit invalidates saved state")
    parser.add_argument("--engine-memory", type=json.loads, default={}, help="JSON, the rest of the block `engine`")
    parser.add_argument("--start", type=Path, required=True, help="manifest of the starting policy")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", nargs="+", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of resumable state, no output")
    parser.add_argument("--tracker", type=json.loads, help="JSON, see prerl.training.tracking.TrackerSettings; or null")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    time_slice = Slice(slurm_end_s())
    settings = json.loads(arguments.settings)
    settings["engine"] |= arguments.engine_memory
    settings = TrainSettings.from_json(json.dumps(settings))
    tracker = arguments.tracker and TrackerSettings(**arguments.tracker)
    files = (arguments.start, arguments.train, arguments.validation, arguments.state, arguments.code)
    trainer = Trainer(settings, *files, tracker)
    if time_slice.end_s is not None and trainer.accelerator.is_main_process and trainer.update < settings.last_update:
        count_attempt(trainer.state.folder / "attempts.json", trainer.update)
    if not trainer.run(arguments.output, time_slice.should_stop):
        time_slice.end(trainer.update, settings.last_update)
    end_processes()


if __name__ == "__main__":
    run_main(main)
