"""Train the last phase of a method: one resumable job (rule train_policy)."""

from __future__ import annotations

import argparse
from pathlib import Path

from prerl.train_settings import TrainSettings
from prerl.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON, see prerl.train_settings.TrainSettings")
    parser.add_argument("--code", nargs="+", type=Path, required=True, help="files whose edit makes old state foreign")
    parser.add_argument("--start", type=Path, required=True, help="manifest of the starting policy")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", nargs="+", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of resumable state, no output")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    settings = TrainSettings.from_json(arguments.settings)
    trainer = Trainer(settings, arguments.start, arguments.train, arguments.validation, arguments.state, arguments.code)
    trainer.run(arguments.output)


if __name__ == "__main__":
    main()
