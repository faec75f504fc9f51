"""Remove what nothing reads any more of a published run: its jobs' state and its start, later its checkpoints too.

The manifests stay, so that Snakemake takes the run for done. What is removed is listed in the output.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from prerl.core.constants import GIB
from prerl.core.errors import run_main
from prerl.core.files import delete, lock_folder, write_json
from prerl.models.checkpoints import MANIFEST, PROGRESS


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a folder, a file of several links once for each."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--keep-checkpoints", action="store_true", help="remove the state and the start alone")
    parser.add_argument("--state", type=Path, nargs="+", required=True, help="state folders of its jobs")
    parser.add_argument(
        "--released", type=Path, required=True, help="output: JSON, the removed folders and their bytes"
    )
    arguments = parser.parse_args()
    states = [folder for folder in arguments.state if folder.is_dir()]
    locks = [lock_folder(folder) for folder in states]  # an error if a job still works in one
    found = [*(arguments.run / "start").glob("*")]
    if not arguments.keep_checkpoints:
        found += (arguments.run / "checkpoints").glob("update*")
    found += [path for folder in states for path in folder.iterdir()]
    removed = {}
    for path in [path for path in found if path.name not in (MANIFEST, PROGRESS, "lock")]:
        removed[str(path)] = size_of(path)
        delete(path)
    for lock in locks:
        lock.close()
    write_json(arguments.released, {"removed_bytes": removed})
    print(f"{sum(removed.values()) / GIB:.2f} GiB removed")


if __name__ == "__main__":
    run_main(main)
