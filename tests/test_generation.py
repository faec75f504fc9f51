"""Sampling of the evaluation over several processes: the same samples, whose failure and whose death."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from prerl import UserError
from prerl.generation import generate_sharded, plan_shards
from prerl.workers import WorkerError, share_out, visible_gpus, worker_environments
from tiny_training import PROMPT, SAMPLING, make_base, make_problems

SETTINGS = {"seed": 1, "samples": 4, "engine": {"name": "transformers"}, "prompt": PROMPT, "sampling": SAMPLING}


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Two checkpoints of a run, by update."""
    folder = tmp_path_factory.mktemp("policies")
    return {update: make_base(folder / f"update{update}", updates=10 + update) for update in (1, 2)}


@pytest.fixture
def questions(tmp_path):
    return [make_problems(tmp_path / f"{name}.parquet", count) for name, count in (("easy", 5), ("hard", 3))]


@pytest.fixture
def small_shards(monkeypatch):
    """Two questions a shard: 5 and 3 questions of two policies make ten shards."""
    monkeypatch.setattr("prerl.generation.SHARD_ROWS", {"transformers": 8, "vllm": 8})


def test_two_processes_give_the_samples_of_one(policies, questions, tmp_path, small_shards):
    one = generate_sharded(policies, questions, tmp_path / "one", SETTINGS, 1)
    two = generate_sharded(policies, questions, tmp_path / "two", SETTINGS, 2)
    assert two == one and len(one) == 2 * (5 + 3) * 4
    assert len(list((tmp_path / "two").iterdir())) == 10
    assert one["update"].to_pylist() == [1] * 32 + [2] * 32
    by_policy = [one.slice(first, 32)["token_ids"].to_pylist() for first in (0, 32)]
    assert by_policy[0] != by_policy[1], "a policy's weights stayed"


def test_finished_shards_are_not_sampled_again(policies, questions, tmp_path, small_shards):
    state = tmp_path / "state"
    expected = generate_sharded(policies, questions, state, SETTINGS, 2)
    before = {path: path.stat().st_mtime_ns for path in state.iterdir()}
    shards = plan_shards(policies, questions, state, SETTINGS)
    for shard in (shards[3], shards[8]):
        shard.path.unlink()
    assert generate_sharded(policies, questions, state, SETTINGS, 2) == expected
    rewritten = [shard for shard in shards if shard.path.stat().st_mtime_ns != before[shard.path]]
    assert rewritten == [shards[3], shards[8]]


class Task:
    """What a worker does with a number: writes its own variables, fails or dies."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, number):
        if number == "fail":
            raise UserError("task 7: the disk of node 3 is full")
        if number == "bug":
            raise ZeroDivisionError
        if number == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == "sleep":
            (self.folder / "sleeper").write_text(str(os.getpid()))
            time.sleep(600)
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        (self.folder / str(number)).write_text(json.dumps([os.environ.get(name) for name in names] + [os.getpid()]))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_each_worker_has_its_gpu_and_its_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("prerl.workers.visible_gpus", lambda: ["3", "GPU-8f"])
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    share_out(range(6), Task(tmp_path), worker_environments())
    found = [json.loads((tmp_path / str(i)).read_text()) for i in range(6)]
    assert {(gpu, threads) for gpu, threads, _ in found} == {("3", "8"), ("GPU-8f", "8")}
    assert len({pid for *_, pid in found}) == 2 and os.environ["OMP_NUM_THREADS"] == "16"


def test_gpus_are_those_that_the_job_was_given(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_gpus() == ["5", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)  # SLURM names GPUs that the node only pretends to have
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_gpus() == [] and len(worker_environments()) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [("fail", "^task 7: the disk of node 3 is full$"), ("die", "ended with code -9"), ("bug", "ended with code 1")],
)
def test_a_workers_failure_ends_all_at_once_with_its_message(tmp_path, fault, message):
    with pytest.raises(WorkerError, match=message):
        share_out(["sleep", fault, 3, 4, 5], Task(tmp_path), [{}, {}])
    assert not alive(int((tmp_path / "sleeper").read_text())) and not (tmp_path / "5").exists()


def test_a_killed_job_leaves_no_worker(tmp_path):
    program = (
        "import sys; sys.path[:0] = ['workflow_scripts', 'tests']\n"
        "from pathlib import Path; from prerl.workers import share_out; from test_generation import Task\n"
        f"if __name__ == '__main__': share_out(['sleep', 'sleep'], Task(Path({str(tmp_path)!r})), [{{}}, {{}}])\n"
    )
    (tmp_path / "program.py").write_text(program)
    job = subprocess.Popen([sys.executable, tmp_path / "program.py"], cwd=os.path.dirname(os.path.dirname(__file__)))
    wait_for((tmp_path / "sleeper").exists)
    worker = int((tmp_path / "sleeper").read_text() or 0)
    job.kill()
    job.wait()
    wait_for(lambda: not alive(worker))
