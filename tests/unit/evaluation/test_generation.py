"""Sampling of the evaluation over several processes: the same samples, whose failure and whose death."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from prerl.evaluation.generation import generate_sharded, plan_shards
from prerl.evaluation.workers import WorkerError, run_on_workers, visible_gpus, worker_environments
from tiny_training import PROMPT, SAMPLING, make_base, make_problems
from worker_tasks import Task

pytestmark = pytest.mark.slow

SETTINGS = {
    "seed": 1,
    "samples_per_question": 4,
    "engine": {"name": "transformers"},
    "prompt": PROMPT,
    "sampling": SAMPLING,
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Two checkpoints of a run, by update."""
    folder = tmp_path_factory.mktemp("policies")
    return {update: make_base(folder / f"update{update}", updates=10 + update) for update in (1, 2)}


@pytest.fixture
def questions(tmp_path):
    return [make_problems(tmp_path / f"{name}.parquet", count) for name, count in (("easy", 5), ("hard", 3))]


def assert_same(ours, expected):
    """The same samples; the log-probs up to the rounding of another number of threads."""
    assert ours.drop_columns("logprobs").to_pylist() == expected.drop_columns("logprobs").to_pylist()
    for own, other in zip(ours["logprobs"].to_pylist(), expected["logprobs"].to_pylist(), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)


def test_two_processes_give_the_samples_of_one_and_finished_shards_stay(policies, questions, tmp_path, monkeypatch):
    # two questions a shard: 5 and 3 questions of two policies make ten shards
    monkeypatch.setattr("prerl.evaluation.generation.SHARD_ROWS", {"transformers": 8})
    one = generate_sharded(policies, questions, tmp_path / "one", SETTINGS, 1)
    assert len(one) == 2 * (5 + 3) * 4 and one["update"].to_pylist() == [1] * 32 + [2] * 32
    by_policy = [one.slice(first, 32)["token_ids"].to_pylist() for first in (0, 32)]
    assert by_policy[0] != by_policy[1], "a policy's weights stayed"
    state = tmp_path / "two"
    assert_same(generate_sharded(policies, questions, state, SETTINGS, 2), one)
    shards = plan_shards(policies, questions, state, SETTINGS)
    assert {shard.path for shard in shards} == set(state.iterdir()) and len(shards) == 10
    before = {path: path.stat().st_mtime_ns for path in state.iterdir()}
    for shard in (shards[3], shards[8]):
        shard.path.unlink()
    assert_same(generate_sharded(policies, questions, state, SETTINGS, 1), one)
    rewritten = [shard for shard in shards if shard.path.stat().st_mtime_ns != before[shard.path]]
    assert rewritten == [shards[3], shards[8]]


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
    monkeypatch.setattr("prerl.evaluation.workers.visible_gpus", lambda: ["3", "GPU-8f"])
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    run_on_workers(["one", "two", "three"], Task(tmp_path), worker_environments())
    found = [json.loads(path.read_text()) for path in tmp_path.glob("worker*")]
    assert {worker["CUDA_VISIBLE_DEVICES"] for worker in found} == {"3", "GPU-8f"}
    assert {worker["OMP_NUM_THREADS"] for worker in found} == {"8"} and os.environ["OMP_NUM_THREADS"] == "16"
    assert (tmp_path / "three").exists()


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
        run_on_workers(["sleep", fault, "never"], Task(tmp_path), [{}, {}])
    assert not alive(int((tmp_path / "sleep").read_text())) and not (tmp_path / "never").exists()


def test_a_killed_job_leaves_no_worker(tmp_path):
    program = (
        "import sys; sys.path[:0] = ['workflow_scripts', 'tests/helpers']\n"
        "from pathlib import Path; from prerl.evaluation.workers import run_on_workers; from worker_tasks import Task\n"
        f"if __name__ == '__main__': run_on_workers(['sleep', 'sleep'], Task(Path({str(tmp_path)!r})), [{{}}, {{}}])\n"
    )
    (tmp_path / "program.py").write_text(program)
    job = subprocess.Popen([sys.executable, tmp_path / "program.py"], cwd=Path(__file__).parents[3])
    wait_for(lambda: (tmp_path / "sleep").exists() and (tmp_path / "sleep").read_text())
    worker = int((tmp_path / "sleep").read_text())
    job.kill()
    job.wait()
    wait_for(lambda: not alive(worker))
