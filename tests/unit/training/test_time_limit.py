"""Slices of a training job: a time limit, played by a `squeue` of the test, and SIGTERM. On a cluster: tests/slurm."""

import os
import signal
from pathlib import Path

import pytest

from killable import Killer
from prerl.core.errors import UserError
from prerl.training import time_limit
from prerl.training.time_limit import ATTEMPTS, MARGIN_S, Slice, count_attempt, slurm_end_s
from tiny_training import Workshop, job
from training_jobs import Training, start_script, updates_done, wait_for_update

pytestmark = pytest.mark.slow

SETTINGS = job(training={"checkpoint_every": 4}, kept_updates=[6], optimizer_updates=[6])


@pytest.fixture(autouse=True)
def handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("slices"))


@pytest.fixture(scope="module")
def killer(shop):
    """Jobs that SLURM ends in 20 s or, where the file `long` is there, in an hour."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_squeue(
            shop.folder, monkeypatch, f"[ -e {shop.folder}/long ] && s=3600; echo $(($(date +%s) + ${{s:-20}}))"
        )
        killer = Killer()
    yield killer
    killer.server.stdin.close()
    killer.server.stdout.close()
    killer.server.wait()


@pytest.fixture
def hours(shop):
    """The jobs of this test have an hour."""
    (shop.folder / "long").touch()
    yield
    (shop.folder / "long").unlink()


def run(killer: Killer, training: Training, folder: Path) -> tuple[int, str]:
    """A whole job: its exit code and its log."""
    end = killer.run("train_policy", training.arguments(folder), folder)
    return end["code"], Path(f"{folder}.log").read_text()


@pytest.fixture(scope="module")
def expected(shop):
    """Results without any slice."""
    settings = Training(shop, SETTINGS)
    shop.run("straight", SETTINGS)
    return settings.results(shop.folder / "straight")


def fake_squeue(folder: Path, monkeypatch, script: str) -> None:
    """A `squeue` first on the path, and the variable that says that this is a job."""
    program = folder / "bin/squeue"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def test_outside_of_slurm_there_is_no_end(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm_end_s() is None
    assert not Slice(None).should_stop()


def test_squeue_is_asked_for_the_end_of_the_job(tmp_path, monkeypatch):
    fake_squeue(tmp_path, monkeypatch, f'echo "$SLURM_TIME_FORMAT $*" > {tmp_path}/asked; echo 1795645619')
    assert slurm_end_s() == 1795645619.0
    assert (tmp_path / "asked").read_text() == "%s --noheader --jobs=17 --format=%e\n"


def test_a_busy_squeue_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(time_limit, "PAUSE_S", 0.0)
    fake_squeue(
        tmp_path, monkeypatch, f"echo >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) = 3 ] && echo 1795645619"
    )
    assert slurm_end_s() == 1795645619.0


@pytest.mark.parametrize("answer", ["echo N/A", "echo slurm_load_jobs error >&2; exit 1"])
def test_a_squeue_that_does_not_answer_ends_the_job(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(time_limit, "PAUSE_S", 0.0)
    fake_squeue(tmp_path, monkeypatch, answer)
    with pytest.raises(UserError, match="squeue must work on the compute nodes"):
        slurm_end_s()


def test_a_slice_is_over_where_the_next_update_might_not_fit(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time_limit.time, "time", lambda: now[0])
    time_slice = Slice(1000.0 + 400.0)
    said = []
    for seconds in (50.0, 20.0, 100.0, 60.0, 1.0):  # longest 50, 50, 100, 100; 400 - 230 < 2 x 100 + MARGIN_S
        now[0] += seconds
        said.append(time_slice.should_stop())
    assert MARGIN_S == 30.0
    assert said == [False, False, False, True, True]  # left: 350 > 130, 330 > 130, 230 = 230, 170 < 230


def test_a_run_of_any_length_ends_in_slices(shop, killer, expected):
    """With a limit so near that a job does one update: six jobs, each saved, nothing done twice."""
    training, folder = Training(shop, SETTINGS), shop.folder / "sliced"
    for update in range(1, 6):
        code, said = run(killer, training, folder)
        assert code == 1
        assert f"the time limit is near: update {update} of 6 is saved, the next attempt resumes there" in said
    code, said = run(killer, training, folder)
    assert code == 0, said
    assert training.results(folder) == expected
    assert updates_done(folder) == [1, 2, 3, 4, 5, 6]


def test_sigterm_saves_the_update_at_hand(shop, killer, expected, hours):
    training, folder = Training(shop, SETTINGS), shop.folder / "told"
    process = start_script(training, folder)
    wait_for_update(process, folder, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    done = {int(path.stem[6:]) for path in (folder / "state").glob("*/metrics/update*.json")}
    saved = {int(path.name[6:]) for path in (folder / "state").glob("*/checkpoints/update*")}
    assert max(saved) == max(done) < 4  # not yet a checkpoint by itself
    assert f"SIGTERM: update {max(done)} of 6 is saved" in (folder / "log").read_text()
    code, said = run(killer, training, folder)
    assert code == 0, said
    assert training.results(folder) == expected
    assert min(updates_done(folder)) == max(done) + 1


def test_jobs_that_save_nothing_new_are_stopped(tmp_path):
    file = tmp_path / "attempts.json"
    for update in (0, 0, 10, 8):  # 8: the checkpoint of 10 was damaged
        count_attempt(file, update)
    for _ in range(ATTEMPTS - 2):
        count_attempt(file, 8)
    with pytest.raises(UserError, match=f"before they saved an update after 8: .* delete {file}"):
        count_attempt(file, 8)
    count_attempt(file, 9)
    file.unlink()
    count_attempt(file, 8)


def test_a_finished_run_started_again_is_no_attempt(shop, killer, expected, hours):
    folder = shop.folder / "straight"
    assert run(killer, Training(shop, SETTINGS), folder)[0] == 0
    assert not list(folder.rglob("attempts.json"))
