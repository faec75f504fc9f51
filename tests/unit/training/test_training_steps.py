"""One update of the trainer: what is trained on, in which order, at what cost, and over two processes."""

import copy
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import prerl.training.trainer
from prerl.core.errors import UserError
from prerl.objectives.token_mean import row_weights
from prerl.rollouts.transformers_sampler import TransformersSampler
from prerl.training.settings import TrainSettings
from tiny import EOS, PREFIX
from tiny_training import POSTTRAIN_ALL, PRETRAIN_NEGATIVE, Workshop, job, make_problems, metrics, next_ids

pytestmark = pytest.mark.slow

OFFICIAL = {"token_mean": {"mode": "official", "max_tokens_per_micro_batch": 60, "ranks": 2}}
PHASES = {"grpo": POSTTRAIN_ALL, "nsr_prerl": PRETRAIN_NEGATIVE}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("steps"))


def captured_step(trainer, monkeypatch, update=1):
    """(graded rollouts, positional arguments of policy_update) of one step that is really done."""
    seen = {}
    grade, train = prerl.training.trainer.sample_and_grade, prerl.training.trainer.policy_update

    def keep_graded(*arguments):
        seen["graded"] = grade(*arguments)
        return seen["graded"]

    def keep_arguments(*arguments, **keywords):
        seen["arguments"] = arguments
        return train(*arguments, **keywords)

    monkeypatch.setattr(prerl.training.trainer, "sample_and_grade", keep_graded)
    monkeypatch.setattr(prerl.training.trainer, "policy_update", keep_arguments)
    seen["metrics"] = trainer.step(update)
    return seen


def ids(batch):
    return [row["id"] for row in batch]


@pytest.mark.parametrize("method", PHASES)
@pytest.mark.parametrize("eos_in_mask", [True, False])
def test_trained_rows_contexts_and_ends(shop, monkeypatch, method, eos_in_mask):
    """The last trained token of a finished answer is EOS (unless that is left out of the mask), of a truncated not."""
    trainer = shop.trainer("rows", job({**PHASES[method], "eos_in_mask": eos_in_mask}, {"prompts_per_update": 8}))
    seen = captured_step(trainer, monkeypatch)
    graded, (_, _, _, contexts, responses, advantages, weights) = seen["graded"], seen["arguments"]
    assert contexts == (graded.contexts if method == "grpo" else [[PREFIX]] * 32)
    assert {rollout.finish_reason for rollout in graded.rollouts} == {"stop", "length"}
    for rollout, response in zip(graded.rollouts, responses, strict=True):
        if rollout.finish_reason == "length":
            assert response == rollout.token_ids and len(response) == 10 and EOS not in response
        elif eos_in_mask:
            assert response == rollout.token_ids and response[-1] == EOS
        else:
            assert [*response, EOS] == rollout.token_ids
    tokens = torch.tensor([len(response) for response in responses])
    counting = advantages < 0 if method == "nsr_prerl" else torch.ones(32, dtype=torch.bool)
    assert 0 < int((advantages == 0).sum()) < 32
    torch.testing.assert_close(weights, counting / (tokens * counting).sum().double())  # one mean over counting tokens
    for group in range(8):
        own = graded.rewards_R[4 * group : 4 * group + 4]
        expected = own - own.mean() if method == "nsr_prerl" else (own - own.mean()) / (own.std() + 1e-6)
        torch.testing.assert_close(advantages[4 * group : 4 * group + 4], expected, atol=1e-6, rtol=1e-5)
    on_policy = -(weights * advantages * tokens).sum().item()  # ratio 1 everywhere
    assert seen["metrics"]["loss"] == pytest.approx(on_policy, abs=1e-6)
    assert seen["metrics"]["clip_fraction"] == 0.0


def test_the_official_mean_packs_by_prompt_and_whole_response_in_both_spaces(shop, monkeypatch):
    phase = {**PRETRAIN_NEGATIVE, "eos_in_mask": False}
    trainer = shop.trainer("packing", job(phase, {"prompts_per_update": 8, **OFFICIAL}))
    seen = captured_step(trainer, monkeypatch)
    graded, (_, _, _, _, responses, advantages, weights) = seen["graded"], seen["arguments"]
    tokens = torch.tensor([len(response) for response in responses])
    whole = [len(c) + len(r.token_ids) for c, r in zip(graded.contexts, graded.rollouts, strict=True)]
    expected = row_weights(tokens, advantages < 0, trainer.settings.objective, whole)
    assert torch.equal(weights, expected)
    for other in (tokens.tolist(), [len(rollout.token_ids) for rollout in graded.rollouts]):
        assert not torch.allclose(row_weights(tokens, advantages < 0, trainer.settings.objective, other), expected)


def test_a_problem_met_again_in_the_next_epoch_is_sampled_anew(shop, tmp_path):
    trainer = shop.trainer("epochs", job(), train=make_problems(tmp_path / "train.parquet", 4))
    assert sorted(ids(trainer.batch(1))) == sorted(ids(trainer.batch(2)))
    assert sorted(next_ids(trainer, 1)) != sorted(next_ids(trainer, 2))


@pytest.mark.parametrize("method", PHASES)
def test_no_pass_is_wasted(shop, monkeypatch, method):
    """With gradients, only rows of an advantage that counts are scored, once, and in the phase's space alone."""
    trainer = shop.trainer("passes", job(PHASES[method], {"prompts_per_update": 8}))
    inputs = []

    def watch(module, arguments, keywords):
        if torch.is_grad_enabled():
            inputs.append(keywords["input_ids"])

    handle = trainer.learner.model.get_decoder().register_forward_pre_hook(watch, with_kwargs=True)
    seen = captured_step(trainer, monkeypatch)
    handle.remove()
    _, _, _, contexts, responses, advantages, weights = seen["arguments"]
    rows = (advantages * weights).nonzero()[:, 0].tolist()
    assert sum(len(ids) for ids in inputs) == len(rows) == seen["metrics"]["rows_trained"]
    assert 0 < len(rows) < 32
    scored = sorted(tuple(row) for ids in inputs for row in ids.tolist())
    width = {tuple((contexts[r] + responses[r])[:-1]): r for r in rows}
    assert all(any(row[: len(key)] == key for key in width) for row in scored)
    assert {row[0] for row in scored} == {PREFIX}
    assert all((row[1] not in (PREFIX,)) for row in scored)
    longest = max(len(contexts[r]) + len(responses[r]) - 1 for r in rows)
    assert max(map(len, scored)) == longest and (longest <= 10) is (method == "nsr_prerl")  # no prompt in log P(y)
    assert seen["metrics"]["tokens_trained"] == sum(len(responses[row]) for row in rows)


def test_a_batch_without_advantage_steps_as_the_official_code_and_gives_no_nan(shop, tmp_path):
    """All answers wrong: no gradient, but weight decay and the decay of the moments go on."""
    impossible = make_problems(tmp_path / "train.parquet", 8, answers="5")
    for name, mean in (("global", {}), ("official", OFFICIAL)):
        settings = job({"last_update": 2}, mean, {"updates": [2]}, kept_updates=[2], optimizer_updates=[2])
        output = shop.run(f"zero_{name}", settings, train=impossible)
        rows = metrics(output)
        assert [row["loss"] for row in rows] == [row["grad_norm"] for row in rows] == [0.0, 0.0]
        assert [row["rows_trained"] for row in rows] == [row["tokens_trained"] for row in rows] == [0, 0]
        assert all(row["logp_yx_right"] is None and row["logp_yx_wrong"] < 0 for row in rows)
        schema = pq.read_schema(output / "metrics.parquet")
        assert schema.field("logp_yx_right").type == schema.field("logp_y_right").type == pa.float64()
        before = load_file(shop.base.parent / "model.safetensors")
        after = load_file(output / "checkpoints/update000002/model.safetensors")
        moments = load_file(output / "checkpoints/update000002/optimizer.safetensors")
        for key, value in before.items():
            torch.testing.assert_close(after[key], value * (1 - 1e-3 * 0.01) ** 2)
        assert {value.item() for key, value in moments.items() if key.endswith("|step")} == {2.0}
        assert all(not value.any() for key, value in moments.items() if not key.endswith("|step"))


class ShiftedSampler(TransformersSampler):
    """Reports log-probs that are off by `shift` nats."""

    shift = 0.02

    def generate(self, prompts, seeds, settings):
        rollouts = super().generate(prompts, seeds, settings)
        return [replace(r, logprobs=[logprob + self.shift for logprob in r.logprobs]) for r in rollouts]


@pytest.mark.parametrize("shift", [0.02, -0.02])
def test_a_gap_between_sampler_and_trainer_stops_the_run_before_the_step(shop, shift):
    trainer = shop.trainer("gap", job())
    trainer.learner.sampler = ShiftedSampler(trainer.learner.model, [EOS])
    trainer.learner.sampler.shift = shift
    before = copy.deepcopy(trainer.learner.model.state_dict())
    with pytest.raises(UserError, match="sampler and trainer differ.*training.max_gap_nats 0.01"):
        trainer.run(shop.folder / "gap/output")
    assert all(torch.equal(value, before[name]) for name, value in trainer.learner.model.state_dict().items())
    assert shop.trainer("gap", job()).update == 0
    trainer.learner.sampler.shift = 0.005
    assert trainer.step(1)["gap_mean"] == pytest.approx(0.005, abs=1e-4)


def test_data_order_is_a_permutation_an_epoch_without_the_incomplete_batch(shop):
    trainer = shop.trainer("order", job())  # 18 problems, batches of 4: 4 updates an epoch, 2 problems dropped
    epochs = [[ids(trainer.batch(4 * epoch + i)) for i in (1, 2, 3, 4)] for epoch in range(3)]
    table = {row["id"]: row for row in pq.read_table(shop.train).to_pylist()}
    for epoch in epochs:
        questions = [question for batch in epoch for question in batch]
        assert len(questions) == len(set(questions)) == 16 and set(questions) < set(table)
    assert epochs[0] != epochs[1] != epochs[2]
    assert ids(shop.trainer("order", job(seed=12)).batch(1)) != epochs[0][0]
    assert all(row == table[row["id"]] for row in trainer.batch(2))


def test_validation_rows(shop):
    settings = job(
        {"last_update": 2},
        validation={"updates": [0, 1, 2], "samples_per_question": 3},
        kept_updates=[2],
        optimizer_updates=[],
    )
    rows = pq.read_table(shop.run("validation", settings) / "validation.parquet").to_pylist()
    assert [(row["update"], row["benchmark"], row["n_questions"]) for row in rows] == [
        (update, *benchmark) for update in (0, 1, 2) for benchmark in (("easy", 3), ("hard", 2))
    ]
    for row in rows:
        answers = 3 * row["n_questions"]
        assert row["n_samples"] == 3 and row["accuracy"] * answers == pytest.approx(round(row["accuracy"] * answers))
        assert 1 <= row["response_tokens_mean"] <= 10 and 0 <= row["truncation_rate"] <= 1


def test_benchmarks_validated_together_or_alone_give_the_same_rows(shop):
    together = shop.trainer("together", job()).validate(0)
    alone = [shop.trainer(path.stem, job(), validation=[path]).validate(0) for path in shop.validation]
    assert together == [row for rows in alone for row in rows]
    assert together[0]["response_tokens_mean"] != together[1]["response_tokens_mean"]


@pytest.mark.parametrize(
    ("block", "key"), [("phase", "horizon"), ("training", "momentum"), ("prompt", "suffix"), ("validation", "every")]
)
def test_an_unknown_or_missing_setting_is_an_error(block, key):
    settings = job()
    settings[block] = settings[block] | {key: 1}
    with pytest.raises(TypeError, match=key):
        TrainSettings.from_json(json.dumps(settings))
    with pytest.raises(TypeError, match="surplus"):
        TrainSettings.from_json(json.dumps(job() | {"surplus": 1}))
    missing = job()
    del missing["training"]["learning_rate"]
    with pytest.raises(TypeError, match="learning_rate"):
        TrainSettings.from_json(json.dumps(missing))


def test_a_longer_time_limit_of_a_function_keeps_the_state():
    """The error that stops a run says to raise it; for math_verify the limit decides what is unscorable."""

    def trajectory(function, time_limit_s):
        rules = {name: {"function": function, "time_limit_s": time_limit_s} for name in ("reward", "thoughts")}
        return TrainSettings.from_json(json.dumps(job(**rules))).trajectory()

    assert trajectory("mine.py:f", 5.0) == trajectory("mine.py:f", 60.0) != trajectory("mine.py:g", 5.0)
    assert trajectory("math_verify", 5.0) != trajectory("math_verify", 60.0)
