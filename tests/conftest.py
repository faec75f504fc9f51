"""Tests import the library as the scripts do: from workflow_scripts/, with nothing installed."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))
SLURM = {"sbatch", "srun", "salloc", "squeue", "sacct", "sacctmgr", "scancel", "scontrol", "sinfo"}


@pytest.fixture(scope="session", autouse=True)
def no_slurm_of_the_machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide SLURM's programs from all tests but tests/slurm, so that a machine which has them hides no missing stand-in.

    A folder of the path that holds some is replaced by one of links to all its other programs.
    """
    if any("tests/slurm/" in item.nodeid for item in request.session.items):
        return
    folders = []
    for folder in map(Path, os.environ["PATH"].split(os.pathsep)):
        programs = list(folder.iterdir()) if folder.is_dir() else []
        if SLURM & {program.name for program in programs}:
            links = tmp_path_factory.mktemp("programs")
            for program in programs:
                if program.name not in SLURM:
                    (links / program.name).symlink_to(program)
            folder = links
        folders.append(str(folder))
    os.environ["PATH"] = os.pathsep.join(folders)


def shares_smoke_run(item: pytest.Item) -> bool:
    return "smoke_run" in getattr(item, "fixturenames", ())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Of several workers (pytest -n 2 --dist loadgroup) one takes a file; one takes all that share the smoke run."""
    item.add_marker(pytest.mark.xdist_group("smoke" if shares_smoke_run(item) else item.path.name))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Raises UsageError in a worker whose pytest does not let xdist name groups (9.2 does not): all would be mixed."""
    if hasattr(session.config, "workerinput") and session.items and "@" not in session.items[0].nodeid:
        raise pytest.UsageError("pytest-xdist names no groups with this pytest: install the pins of requirements.txt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: the smoke run, then the workflow's tests."""
    items.sort(key=lambda item: (not shares_smoke_run(item), item.path.parent.name != "workflow"))
