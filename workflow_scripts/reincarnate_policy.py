"""Policy reincarnation: the checkpoint of one phase becomes the start of the next (rule reincarnate_policy).

Hands over weights, tokenizer and, with `optimizer: keep` (official), the AdamW moments; `fresh` leaves them out. Random
numbers and the data order are functions of (seed, update), so the next phase continues at update S + 1 by number alone.
With `start: random_step`, a control, the weights are the base's after a random step as long as the phase's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from prerl.core.errors import run_main
from prerl.models.checkpoints import (
    MANIFEST,
    OPTIMIZER,
    PROGRESS,
    CheckpointError,
    link_files,
    link_or_copy,
    new_folder,
    parts_of,
    verify,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help='JSON {"update": S, "optimizer", "start", "seed"}')
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="the parent's checkpoint at update S, its manifest"
    )
    parser.add_argument("--base", type=Path, help="manifest of the base model, for a random step")
    parser.add_argument("--start", type=Path, required=True, help="manifest to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    source = verify(arguments.checkpoint)
    names = sorted(path.name for path in source.iterdir() if path.name != MANIFEST)
    update = json.loads((source / PROGRESS).read_text())["update"]
    if update != settings["update"]:
        raise CheckpointError(f"{source} is of update {update}, not {settings['update']}: rerun the run that made it")
    moments = parts_of(OPTIMIZER, names)
    if settings["optimizer"] == "keep" and not moments:
        raise CheckpointError(
            f"{source} holds no optimizer moments, which `optimizer: keep` hands over: delete "
            f"{source.parent / MANIFEST} to have the run keep them"
        )
    if settings["optimizer"] == "fresh":
        names = [name for name in names if name not in moments]
    folder = arguments.start.parent
    if settings["start"] == "trained":
        link_files(source, names, folder)
        return
    from prerl.models.random_step import WEIGHTS, random_step  # torch, which the other starts do without

    base = verify(arguments.base)
    others = [name for name in names if not name.startswith("model")]
    with new_folder(folder, sum((source / name).stat().st_size for name in names)) as temporary:
        random_step(base, source, settings["seed"], temporary / WEIGHTS)
        for name in others:
            link_or_copy(source / name, temporary / name)


if __name__ == "__main__":
    run_main(main)
