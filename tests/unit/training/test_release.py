"""release_checkpoints.py: what goes, what stays, and that a job at work keeps its state."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import release_checkpoints
from prerl.core.files import FolderInUseError, lock_folder


def release(run, *states) -> dict:
    arguments = ["--run", run, "--state", *states, "--released", run / "checkpoints/released.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["release_checkpoints.py", *map(str, arguments)])
        release_checkpoints.main()
    return json.loads((run / "checkpoints/released.json").read_text())["removed_bytes"]


@pytest.fixture
def run(tmp_path):
    """A finished run with two checkpoints, a start, metrics, and the state of its training."""
    for name in (
        "run/checkpoints/manifest.json", "run/checkpoints/update000002/model.safetensors",
        "run/checkpoints/update000002/manifest.json", "run/checkpoints/update000006/model.safetensors",
        "run/start/manifest.json", "run/start/model.safetensors", "run/metrics.parquet",
        "state/progress.json", "state/0123/checkpoints/update000002/model.safetensors",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 10)
    return tmp_path / "run"


def left(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_weights_and_state_go_and_manifests_stay(run):
    removed = release(run, run.parent / "state", run.parent / "none")
    assert left(run.parent) == {
        "run/checkpoints/manifest.json", "run/checkpoints/released.json", "run/start/manifest.json",
        "run/metrics.parquet", "state/progress.json", "state/lock",
    }  # fmt: skip
    assert sorted(removed.values()) == [10, 10, 10, 20]
    assert release(run, run.parent / "state") == {}  # again: nothing is left to remove


def test_the_state_goes_before_the_checkpoints(run):
    removed = release(run, run.parent / "state", "--keep-checkpoints")
    assert left(run / "checkpoints") > {"update000002/model.safetensors", "update000006/model.safetensors"}
    assert left(run / "start") == {"manifest.json"} and left(run.parent / "state") == {"progress.json", "lock"}
    assert sorted(removed.values()) == [10, 10]


def test_a_state_at_work_is_an_error_and_stays(run):
    program = "import sys, time; from prerl.core.files import lock_folder; l = lock_folder(__import__('pathlib').Path("
    program += "sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, run.parent / "state"],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(release_checkpoints.__file__).parent)},
    )
    try:
        assert holder.stdout.readline() == b"locked\n"
        before = left(run)
        with pytest.raises(FolderInUseError, match="is in use by process"):
            release(run, run.parent / "state")
        assert left(run) == before
    finally:
        holder.kill()
        holder.wait()
    lock_folder(run.parent / "state").close()
