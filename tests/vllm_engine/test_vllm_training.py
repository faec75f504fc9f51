"""Training with the vLLM engine, in .venv-vllm: sampled by the present policy, resumed, shared out, on two ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from vllm_models import SHAPE

import tiny_training
from prerl.core.errors import UserError
from prerl.data.miniature import build_model
from prerl.evaluation.generation import generate_sharded
from tiny import TOKENIZER
from tiny_training import PROMPT, SAMPLING, Workshop, job, metrics

ROOT = Path(__file__).parents[2]
ENGINE = {"name": "vllm", "kv_cache_gib": 0.1}
TRAINING = {"learning_rate": 5e-3, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_training, "tiny_model", lambda seed: build_model(SHAPE, TOKENIZER, seed))
        yield Workshop(tmp_path_factory.mktemp("training"))


def three_updates(**changes):
    settings = job({"last_update": 3}, TRAINING, {"updates": [0, 3]}, engine=ENGINE)
    return settings | {"kept_updates": [3], "optimizer_updates": [3]} | changes


TRAINERS = []  # an engine that is deleted takes vLLM's process groups from the others


def trainer_of(shop, name, settings):
    TRAINERS.append(shop.trainer(name, settings))
    return TRAINERS[-1]


@pytest.fixture(scope="module")
def straight(shop):
    output = shop.folder / "straight/output"
    trainer_of(shop, "straight", three_updates()).run(output)
    return output


def test_every_update_samples_from_the_present_policy(straight):
    rows = metrics(straight)
    assert [row["update"] for row in rows] == [1, 2, 3]
    assert all(row["gap_max"] <= 1e-4 and 0 < row["reward_mean"] < 1 for row in rows)
    assert rows[0]["rows_trained"] > 0 and rows[0]["grad_norm"] > 0  # so the later policies are others
    validation = pq.read_table(straight / "validation.parquet").to_pylist()
    assert [row["update"] for row in validation] == [0, 0, 3, 3]


def test_a_stale_engine_stops_the_run(shop):
    trainer = trainer_of(shop, "stale", three_updates())
    trainer.learner.sampler.sync_weights = lambda model: None
    with pytest.raises(UserError, match="update 2: sampler and trainer differ.*look for stale weights"):
        trainer.run(shop.folder / "stale/output")
    assert trainer.update == 1


def test_a_killed_run_goes_on_with_the_engine_of_its_last_update(shop, straight):
    first = trainer_of(shop, "killed", three_updates())
    first.state.write("validation", 0, first.validate(0))
    first.state.write("metrics", 1, first.step(1))
    first.state.save(1, first.learner, first.accelerator)
    second = trainer_of(shop, "killed", three_updates())
    assert second.update == 1
    second.run(shop.folder / "killed/output")
    for own, other in zip(metrics(shop.folder / "killed/output"), metrics(straight), strict=True):
        assert own["tokens_sampled"] == other["tokens_sampled"]
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_two_processes_of_the_engine_evaluate_as_one(shop, straight, tmp_path, monkeypatch):
    monkeypatch.setattr("prerl.evaluation.generation.SHARD_ROWS", {"vllm": 6})
    settings = {"seed": 1, "samples_per_question": 3, "engine": ENGINE, "prompt": PROMPT, "sampling": SAMPLING}
    policies = {0: shop.base, 3: straight / "checkpoints/update000003/manifest.json"}
    one = generate_sharded(policies, shop.validation, tmp_path / "one", settings, 1)
    two = generate_sharded(policies, shop.validation, tmp_path / "two", settings, 2)
    assert two.drop_columns("logprobs") == one.drop_columns("logprobs") and len(one) == 2 * 5 * 3
    assert {row["finish_reason"] for row in one.to_pylist()} == {"stop", "length"}
    ids = one["token_ids"].to_pylist()
    assert ids[:15] != ids[15:], "the weights of the second policy are those of the first"


def test_two_ranks_sample_their_own_prompts_from_gathered_weights(tmp_path):
    script = Path(__file__).with_name("vllm_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, tmp_path]
    path = os.pathsep.join([str(ROOT / "workflow_scripts"), str(ROOT / "tests/helpers")])
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(rank["gaps"]) for rank in ranks] == [3, 2] and max(sum((r["gaps"] for r in ranks), [])) <= 1e-4
    assert [len(rank["ids"]) for rank in ranks] == [16, 8]
