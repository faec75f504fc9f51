"""train_policy.py in two processes over gloo: the run of one process, whichever number begins and whichever goes on."""

import shutil
from pathlib import Path

import pytest

from prerl.models.checkpoints import OPTIMIZER, parts_of
from prerl.models.sharding import end_processes
from ranks import assert_equal_runs, launch, launched, tensors_of
from tiny_training import POSTTRAIN_ALL, PRETRAIN_NEGATIVE, Workshop, job, metrics, tensors

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("processes"))


def settings_of(phase: dict, **training) -> dict:
    """Three updates, all kept with their moments; eps is large, so that Adam does not blow up what is rounding."""
    return job(
        {**phase, "last_update": 3},
        {"eps": 1e-3, "checkpoint_every": 1, **training},
        {"updates": [0, 3]},
        kept_updates=[1, 2, 3],
        optimizer_updates=[1, 2, 3],
    )


def forget(shop, name, other, update):
    """The state of the run `name` as run `other`, as if it had been killed after `update`."""
    shutil.copytree(shop.folder / name / "state", shop.folder / other / "state")
    for folder in (shop.folder / other / "state").glob("*/"):
        for number in range(update + 1, 4):
            shutil.rmtree(folder / f"checkpoints/update{number:06d}")
            (folder / f"metrics/update{number:06d}.json").unlink()


@pytest.fixture(scope="module")
def two(shop):
    """Three updates of GRPO by two processes that share the micro-batches."""
    return launched(shop, "two", settings_of(POSTTRAIN_ALL, micro_batch_tokens=40))


def test_two_processes_train_as_one_and_write_in_parallel(shop, two):
    one = shop.run("one", settings_of(POSTTRAIN_ALL, micro_batch_tokens=40))
    assert_equal_runs(one, two)
    _, files = tensors_of(two / "checkpoints/update000003")
    assert len(files) == 4 and parts_of(OPTIMIZER, [file.name for file in files]) == [file.name for file in files[2:]]
    sizes = [file.stat().st_size for file in files]
    assert max(sizes[:2]) < 2 * min(sizes[:2]) and max(sizes[2:]) < 2 * min(sizes[2:])


def test_one_process_goes_on_where_two_stopped(shop, two):
    forget(shop, "two", "two_one", 2)
    settings = settings_of(POSTTRAIN_ALL, micro_batch_tokens=40)
    assert shop.trainer("two_one", settings).update == 2
    assert_equal_runs(shop.run("two_one", settings), two)


def test_two_processes_train_a_critic_as_one_and_resume_it(shop):
    """Each reads its rows of policy and critic, at the start and when resuming."""
    phase = {**POSTTRAIN_ALL, "advantage_std": False, "estimator": "gae"}
    critic = {"learning_rate": 3e-3, "weight_decay": 0.01, "grad_clip": 1.0, "clip_value": 0.5, "warmup_updates": 0}
    settings = settings_of(phase, micro_batch_tokens=40) | {"critic": critic}
    one, two = shop.run("critic", settings), launched(shop, "critic_two", settings)
    assert_equal_runs(one, two)
    forget(shop, "critic_two", "critic_again", 1)
    assert_equal_runs(one, launched(shop, "critic_again", settings))


def test_two_processes_go_on_where_one_stopped_though_one_has_no_row(shop):
    """One micro-batch an update: the second process has none."""
    settings = settings_of(PRETRAIN_NEGATIVE, micro_batch_tokens=10_000)
    one = shop.run("alone", settings)
    assert all(row["rows_trained"] > 0 for row in metrics(one))
    forget(shop, "alone", "joined", 1)
    assert_equal_runs(one, launched(shop, "joined", settings))


def test_an_error_of_all_processes_is_said_once(shop):
    done = launch(shop, "refused", settings_of(POSTTRAIN_ALL, prompts_per_update=99))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if "training.prompts_per_update 99" in line]
    assert len(said) == 1 and said[0].startswith("error: ") and done.stderr.rstrip().endswith(said[0])


def test_one_process_in_bfloat16_resumes_bitwise(shop):
    """Shards of one process, packed rows, activation checkpointing: a GPU's settings."""
    gpu = {"precision": "bfloat16", "activation_checkpointing": True, "pack_rows": True, "max_gap_nats": 0.1}
    settings = settings_of(PRETRAIN_NEGATIVE, **gpu)
    try:
        straight = shop.run("bfloat16", settings)
        forget(shop, "bfloat16", "broken", 1)
        assert shop.trainer("broken", settings).update == 1
        broken = shop.run("broken", settings)
    finally:
        end_processes()
    assert tensors(straight, 3) == tensors(broken, 3) and metrics(straight) == metrics(broken)
    rows = metrics(straight)
    assert all(row["gap_mean"] < 0.02 and row["rows_trained"] > 0 for row in rows)
    exact = metrics(shop.run("float32", settings_of(PRETRAIN_NEGATIVE, pack_rows=True)))
    assert (
        abs(rows[0]["logp_y_wrong"] - exact[0]["logp_y_wrong"]) > 1e-5
    )  # of one policy on the same samples, or nearly
