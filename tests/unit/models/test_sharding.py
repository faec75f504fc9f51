"""A tiny model in two shards (tests/helpers/two_ranks.py) against the plain model in one process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from prerl.models.batching import plan_micro_batches
from prerl.models.checkpoints import CheckpointError, empty_model, load_model, verify
from prerl.models.logprobs import response_logprobs
from prerl.models.sharding import full_parameters, prepare
from prerl.models.training_checkpoints import load_optimizer, load_shards, save_checkpoint
from prerl.rollouts.transformers_sampler import TransformersSampler
from prerl.training.updates import policy_update
from tiny import EOS, FAMILIES, TOKENIZER, VOCABULARY, family_model, tiny_model
from two_ranks import CASES, ROWS, SETTINGS, batch, make_policy, run_case, samples, whole

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two_ranks.py wrote."""
    folder = tmp_path_factory.mktemp("sharding")
    scripts = TESTS.parent / "workflow_scripts"
    command = [
        sys.executable,
        scripts / "launch_ranks.py",
        "--processes",
        "2",
        "--",
        TESTS / "helpers/two_ranks.py",
        folder,
    ]
    paths = {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(map(str, (scripts, TESTS / "helpers"))),
    }
    done = subprocess.run(
        [str(part) for part in command], env=os.environ | paths, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def said(folder):
    """What each rank reports."""
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def plain(accelerator):
    """Metrics and tensors of an update by one process, plain model, padded rows, all logits at once; by case."""
    plain = {case: ("float32", False, False, *rest) for case, (_, _, _, *rest) in CASES.items()}
    results = {how: run_case(accelerator, *how)[2:] for how in set(plain.values())}
    return {case: results[how] for case, how in plain.items()}


@pytest.mark.parametrize("case", [case for case in CASES if case != "bfloat16"])
def test_shards_have_the_gradient_of_one_process(folder, said, plain, case):
    metrics, tensors = plain[case]
    sharded = load_file(folder / f"{case}.safetensors")
    assert (tensors["gradient"].abs().max().item() > 1e-2) is (CASES[case][-1] > 0)
    assert (sharded["gradient"] - tensors["gradient"]).abs().max() <= 1e-6
    torch.testing.assert_close(sharded["logprobs"], tensors["logprobs"], atol=1e-5, rtol=0)
    torch.testing.assert_close(sharded["after"], tensors["after"], atol=1e-4, rtol=0)
    assert not torch.allclose(tensors["after"], tensors["logprobs"], atol=2e-4)
    for rank in said:
        assert {key: pytest.approx(rank[case][key], abs=1e-6) for key in metrics} == metrics


def test_each_process_holds_half_and_everything_kept_and_reduced_is_float32(said):
    for case, (precision, *_) in CASES.items():
        for rank in said:
            assert rank[case]["shard"][0] in (VOCABULARY // 2, VOCABULARY - VOCABULARY // 2)
            assert rank[case]["kept"] == ["torch.float32"]
            reduced = ["torch.float32"] if CASES[case][-1] else []
            assert rank[case]["traffic"] == {"gathered": [f"torch.{precision}"], "reduced": reduced}


def close_to(tensors, expected):
    """Relative error of the gradient, mean difference of the log-probs."""
    error = (tensors["gradient"] - expected["gradient"]).norm() / expected["gradient"].norm()
    return error.item(), (tensors["logprobs"] - expected["logprobs"]).abs().mean().item()


@pytest.fixture
def one_process(accelerator):
    """An accelerator for shards of one process: the group that they open is closed again."""
    yield accelerator
    torch.distributed.destroy_process_group()


def test_bfloat16_is_close_to_float32_on_one_process_and_on_two(folder, plain, one_process):
    _, expected = plain["bfloat16"]
    one = run_case(one_process, *CASES["bfloat16"])[-1]
    for tensors in (load_file(folder / "bfloat16.safetensors"), one):
        error, difference = close_to(tensors, expected)
        assert 1e-4 < error < 0.03 and 1e-4 < difference < 0.03


def test_one_process_in_bfloat16_saves_the_plain_files_and_goes_on(one_process, tmp_path):
    model, optimizer, *_ = run_case(one_process, *CASES["bfloat16"])
    save_checkpoint(tmp_path / "checkpoint", model, TOKENIZER, optimizer, {"update": 1}, one_process)
    names = {path.name for path in verify(tmp_path / "checkpoint/manifest.json").iterdir()}
    assert {"model.safetensors", "optimizer.safetensors"} < names and "model.safetensors.index.json" not in names
    loaded = dict(load_model(tmp_path / "checkpoint").named_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in full_parameters(model))
    again, other = make_policy(one_process, *CASES["bfloat16"][:4])
    load_optimizer(tmp_path / "checkpoint", again, other)
    for parameter, same in zip(model.parameters(), again.parameters(), strict=True):
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(whole(value), whole(other.state[same][key]))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_loaded_in_shards_is_the_model_loaded_whole(one_process, family, tmp_path):
    """Buffers too, such as Gemma's scale of embeddings and the rotary frequencies, and no dropout."""
    family_model(family, attention_dropout=0.5, resid_pdrop=0.5).save_pretrained(tmp_path)
    if family == "llama":  # as Llama 2's files
        file = tmp_path / "model.safetensors"
        unused = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
        save_file(load_file(file) | unused, file, metadata={"format": "pt"})
    models = load_model(tmp_path, "cpu"), empty_model(tmp_path)
    for model in models:
        prepare(model, one_process, "bfloat16")
    load_shards(tmp_path, models[1], one_process.device)
    contexts, responses, *_ = batch(ROWS)
    ours, theirs = (response_logprobs(model.train(), contexts, responses) for model in reversed(models))
    assert torch.equal(ours, theirs) and torch.equal(response_logprobs(models[0].eval(), contexts, responses), theirs)


def test_the_shards_files_are_a_transformers_folder_bitwise_and_any_number_of_processes_reads_them(folder, said):
    checkpoint = verify(folder / "checkpoint/manifest.json")
    gathered = load_file(folder / "gathered.safetensors")
    files = {path.name for path in checkpoint.glob("*.safetensors")}
    assert files == {f"{kind}-0000{rank}-of-00002.safetensors" for kind in ("model", "optimizer") for rank in (1, 2)}
    weights = dict(load_model(checkpoint).named_parameters())
    assert all(torch.equal(value, gathered[name]) for name, value in weights.items())
    assert torch.equal(
        AutoModelForCausalLM.from_pretrained(checkpoint).lm_head.weight, gathered["model.embed_tokens.weight"]
    )
    model = load_model(checkpoint)
    optimizer = torch.optim.AdamW(model.parameters())
    load_optimizer(checkpoint, model, optimizer)
    for name, parameter in model.named_parameters():
        assert set(optimizer.state[parameter]) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, gathered[f"{name}|{key}"]) for key, value in optimizer.state[parameter].items())
    assert [rank["read back"] for rank in said] == [True, True]


def test_each_process_reads_and_holds_its_half_of_the_weights_and_trains_the_same(said):
    for rank in said:
        loaded = rank["loaded"]
        assert loaded["before"] == 0 and loaded["read"] == loaded["held"]
        assert 0.4 < loaded["held"] / loaded["bytes"] < 0.6
        assert all(loaded[name] for name in ("loaded", "trained", "generation", "config"))
    assert sum(rank["loaded"]["held"] for rank in said) == said[0]["loaded"]["bytes"]


def shards_of(one_process, folder):
    """An empty model, sharded over one process."""
    model = empty_model(folder)
    prepare(model, one_process, "bfloat16")
    return model


@pytest.fixture
def made(tmp_path):
    """A folder with a tiny model, and its weights by name."""
    tiny_model(3).save_pretrained(tmp_path)
    return tmp_path, load_file(tmp_path / "model.safetensors")


def test_weights_in_bfloat16_and_a_copy_of_the_tied_ones_are_read_as_transformers_does(one_process, made):
    folder, weights = made
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()  # as Qwen3-0.6B's file has it
    save_file(
        {name: value.bfloat16() for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    model = shards_of(one_process, folder)
    load_shards(folder, model, one_process.device)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    plain = dict(load_model(folder).named_parameters())
    assert {name: torch.equal(value, plain[name]) for name, value in full_parameters(model)} == dict.fromkeys(
        plain, True
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop("model.norm.weight"), "lacks model.norm.weight"),
        (lambda weights: weights.update(foreign=torch.ones(2)), "holds ['foreign'], unknown to this model"),
        (lambda weights: weights.update({"model.norm.weight": torch.ones(3)}), "model.norm.weight is of another shape"),
    ],
)
def test_foreign_weights_are_refused(one_process, made, change, said):
    folder, weights = made
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_shards(folder, shards_of(one_process, folder), one_process.device)


def test_a_broken_file_is_refused(one_process, made):
    model = shards_of(one_process, made[0])
    (made[0] / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_shards(made[0], model, one_process.device)


def test_each_process_samples_from_a_copy_that_follows_the_weights(accelerator, said):
    model, optimizer = make_policy(accelerator)
    for turn in (0, 1):
        expected = samples(TransformersSampler(model, EOS))
        assert [said[row // 2 % 2]["samples"][turn][row // 4 * 2 + row % 2] for row in range(8)] == expected
        policy_update(model, optimizer, accelerator, *batch(ROWS), **SETTINGS)
    assert said[0]["samples"][0] != said[0]["samples"][1]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_every_rank_has_equally_many_micro_batches_within_the_limit(packed, ranks):
    lengths = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(3)).tolist()
    shares = plan_micro_batches(lengths, 128, ranks, packed)
    batches = [batch for share in shares for batch in share]
    assert len(shares) == ranks and len({len(share) for share in shares}) == 1
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    sums = [sum(lengths[row] for row in batch) for batch in batches]
    if packed:
        assert max(sums) <= 128 and len(batches) * 128 < 1.15 * sum(lengths) + 128 * ranks
        assert max(sums) - min(sums) <= 6
    else:
        assert all(len(batch) * max((lengths[row] for row in batch), default=0) <= 128 for batch in batches)
    totals = [sum(lengths[row] for batch in share for row in batch) for share in shares]
    assert max(totals) - min(totals) <= (0.02 if packed else 0.1) * max(totals)


def test_plans_of_few_rows():
    assert plan_micro_batches([], 128, 2, True) == plan_micro_batches([], 128, 2, False) == [[], []]
    assert plan_micro_batches([5], 128, 2, True) == plan_micro_batches([5], 128, 2, False) == [[[0]], [[]]]
    assert plan_micro_batches([500, 3], 128, 1, True) == [[[0], [1]]]  # a longer row is alone
