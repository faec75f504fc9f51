"""PPO: the critic against naive references, its runs resumed, killed, handed to and shared by two processes."""

import copy
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from prerl.config.training import CriticSettings
from prerl.core.hashes import sha256_of
from prerl.models.checkpoints import CRITIC, CRITIC_OPTIMIZER, CheckpointError
from prerl.models.logprobs import response_hidden
from prerl.models.training_checkpoints import load_critic
from prerl.training.critic import Critic, ValueModel, explained_variance, value_loss
from prerl.training.settings import TrainSettings
from ranks import assert_equal_runs, launched, tensors_of
from tiny import random_ids, tiny_model
from tiny_training import (
    POSTTRAIN_ALL,
    PRETRAIN_NEGATIVE,
    Workshop,
    job,
    make_problems,
    metrics,
    next_ids,
    tensors,
)

pytestmark = pytest.mark.slow

ROWS = 12
CRITIC_SETTINGS = {
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "grad_clip": 1.0,
    "clip_value": 0.5,
    "warmup_updates": 0,
}
PPO = {**POSTTRAIN_ALL, "advantage_std": False, "estimator": "gae"}


def ppo_job(phase=None, training=None, validation=None, critic=None, **changes):
    settings = job({**PPO, **(phase or {})}, training, validation, **changes)
    return settings | {"critic": CRITIC_SETTINGS | (critic or {})}


@pytest.fixture(scope="module")
def policy():
    return tiny_model(5)


@pytest.fixture(scope="module")
def rows():
    """(contexts, responses, returns by token)."""
    generator = torch.Generator().manual_seed(4)
    contexts = [random_ids(generator, 2 + row % 5) for row in range(ROWS)]
    lengths = torch.randint(1, 9, (ROWS,), generator=generator).tolist()
    responses = [random_ids(generator, length) for length in lengths]
    return contexts, responses, [torch.rand(length, generator=generator) for length in lengths]


def make_critic(policy, micro_batch_tokens=32, **changes):
    settings = CriticSettings(**CRITIC_SETTINGS | changes)
    own = {"seed": 9, "betas": (0.9, 0.999), "eps": 1e-8, "micro_batch_tokens": micro_batch_tokens, "folder": Path()}
    return Critic(settings, policy, Accelerator(cpu=True), **own)


def naive_values(model, context, response):
    """One row alone: the head on the hidden state of every token before the predicted one."""
    hidden = model.get_decoder()(input_ids=torch.tensor([context + response])).last_hidden_state[0]
    states = hidden[len(context) - 1 : len(context) + len(response) - 1]
    return states @ model.score.weight[0] + model.score.bias[0]


def test_values_are_those_of_each_row_alone(policy, rows):
    contexts, responses, _ = rows
    for micro_batch_tokens in (16, 10_000):
        critic = make_critic(policy, micro_batch_tokens)
        ours = critic.values(contexts, responses)
        for context, response, own in zip(contexts, responses, ours, strict=True):
            expected = naive_values(critic.model, context, response).detach()
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)
    assert critic.values(contexts[:2], [[], responses[1]])[0].shape == (0,)


def test_the_critic_starts_as_a_copy_of_the_policy_with_a_seeded_head(policy, rows):
    one, same, other = ValueModel(policy, 1), ValueModel(policy, 1), ValueModel(policy, 2)
    for (name, value), policys in zip(one.decoder.named_parameters(), policy.get_decoder().parameters(), strict=True):
        assert torch.equal(value, policys) and value.data_ptr() != policys.data_ptr(), name
    contexts, responses, _ = rows
    assert torch.equal(response_hidden(one, contexts, responses)[0], response_hidden(policy, contexts, responses)[0])
    assert torch.equal(one.score.weight, same.score.weight) and not torch.equal(one.score.weight, other.score.weight)
    assert one.score.bias.item() == 0 and 0.01 < one.score.weight.std() < 0.03


def test_value_loss_by_hand():
    values, old, returns = torch.tensor([1.0, 0.3, -1.0]), torch.zeros(3), torch.tensor([2.0, 2.0, 2.0])
    # clipped to 0.5, 0.3, -0.5: squares 2.25, 2.89, 6.25 against plain 1, 2.89, 9
    torch.testing.assert_close(value_loss(values, old, returns, 0.5), torch.tensor([1.125, 1.445, 4.5]))


def test_explained_variance_by_hand():
    returns = [torch.tensor([0.0, 1.0]), torch.tensor([1.0])]
    assert explained_variance(returns, returns) == pytest.approx(1.0)
    assert explained_variance([torch.zeros(2), torch.zeros(1)], returns) == pytest.approx(0.0)
    # errors 0.5, 0, 0 have variance 1/12, returns 1/3
    assert explained_variance([torch.tensor([-0.5, 1.0]), torch.tensor([1.0])], returns) == pytest.approx(0.75)
    assert explained_variance(returns, [torch.ones(2), torch.ones(1)]) is None


@pytest.mark.parametrize("clip_value", [0.5, 0.05])
def test_gradient_of_the_critics_update_equals_the_naive_loss(policy, rows, clip_value):
    """Token mean over the batch, whatever the micro-batches; the values before differ so that the clip acts."""
    contexts, responses, returns = rows
    tokens = sum(map(len, responses))
    for micro_batch_tokens in (16, 64, 10_000):
        critic = make_critic(policy, micro_batch_tokens, grad_clip=1e9, clip_value=clip_value)
        old = [value + 0.1 for value in critic.values(contexts, responses)]
        reference = copy.deepcopy(critic.model)
        losses = []
        for context, response, before, target in zip(contexts, responses, old, returns, strict=True):
            value = naive_values(reference, context, response)
            clipped = torch.maximum(torch.minimum(value, before + clip_value), before - clip_value)
            losses.append(0.5 * torch.maximum((value - target) ** 2, (clipped - target) ** 2))
        loss = torch.cat(losses).mean()
        expected = torch.autograd.grad(loss, list(reference.parameters()))
        found = critic.update(contexts, responses, old, returns, torch.full((ROWS,), 1 / tokens, dtype=torch.double))
        for (name, parameter), gradient in zip(critic.model.named_parameters(), expected, strict=True):
            assert (parameter.grad - gradient).abs().max() <= 1e-6, name
        assert found["value_loss"] == pytest.approx(loss.item(), abs=1e-6)
        norm = torch.cat([gradient.reshape(-1) for gradient in expected]).norm().item()
        assert found["value_grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert norm > 0.01


def test_the_critic_learns_the_returns_of_a_batch_and_leaves_the_policy(policy, rows):
    contexts, responses, returns = rows
    before = copy.deepcopy(policy.state_dict())
    critic = make_critic(policy, 10_000)
    weights = torch.full((ROWS,), 1 / sum(map(len, responses)), dtype=torch.double)
    found = [
        critic.update(contexts, responses, critic.values(contexts, responses), returns, weights) for _ in range(80)
    ]
    assert found[-1]["value_loss"] < 0.02 * found[0]["value_loss"]
    assert found[0]["value_explained_variance"] < 0.3 and found[-1]["value_explained_variance"] > 0.95
    assert critic.updates() == 80
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_a_critics_gradient_that_is_not_finite_stops_before_the_step(policy, rows):
    contexts, responses, returns = rows
    critic = make_critic(policy)
    before = copy.deepcopy(critic.model.state_dict())
    weights = torch.full((ROWS,), torch.inf, dtype=torch.double)
    with pytest.raises(FloatingPointError, match="lower critic.learning_rate"):
        critic.update(contexts, responses, critic.values(contexts, responses), returns, weights)
    assert all(torch.equal(value, before[name]) for name, value in critic.model.state_dict().items())


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("critic"))


@pytest.fixture(scope="module")
def straight(shop):
    """Six updates of PPO without a break: (output folder, ids sampled next)."""
    output = shop.run("straight", ppo_job())
    return output, next_ids(shop.trainer("straight", ppo_job()), 7)


def critic_files(shop, name, update=6):
    (folder,) = (shop.folder / name / "state").glob(f"*/checkpoints/update{update:06d}")
    return {file: sha256_of(folder / file) for file in (CRITIC, CRITIC_OPTIMIZER)}


def test_the_critic_stays_in_the_state_and_its_metrics_are_ppos_alone(shop, straight):
    output, _ = straight
    published = {path.name for path in (output / "checkpoints/update000006").iterdir()}
    assert {"model.safetensors", "optimizer.safetensors"} < published and not {CRITIC, CRITIC_OPTIMIZER} & published
    assert critic_files(shop, "straight").keys() == {CRITIC, CRITIC_OPTIMIZER}
    valued = {"value_loss", "value_grad_norm", "value_explained_variance"}
    for row in metrics(output):
        assert valued < row.keys() and row["value_loss"] > 0 and row["value_grad_norm"] > 0
        assert row["grad_norm"] > 0 and row["rows_trained"] == 16 and row["clip_fraction"] == 0.0
    grpo = shop.run("grpo", job({"last_update": 1}, kept_updates=[1], optimizer_updates=[], validation={"updates": []}))
    assert not valued & set(pq.read_schema(grpo / "metrics.parquet").names)


@pytest.mark.parametrize("killed_before", [4, 6])
def test_a_resumed_run_equals_the_straight_one_bitwise(shop, straight, killed_before):
    name = f"killed{killed_before}"
    trainer = shop.trainer(name, ppo_job())
    for update in range(1, killed_before):
        trainer.state.write("metrics", update, trainer.step(update))
        if update == 3:
            trainer.state.write("validation", 0, trainer.validate(0))
            trainer.state.save(3, trainer.learner, trainer.accelerator)
    trainer.state.lock.close()
    resumed = shop.trainer(name, ppo_job())
    assert resumed.update == 3 and resumed.learner.critic.updates() == 3
    output = shop.folder / name / "output"
    resumed.run(output)
    assert tensors(output) == tensors(straight[0]) and critic_files(shop, name) == critic_files(shop, "straight")
    assert metrics(output) == metrics(straight[0])
    assert next_ids(resumed, 7) == straight[1]


def test_warm_up_trains_the_critic_alone_also_after_a_resume(shop):
    settings = ppo_job(training={"checkpoint_every": 1}, critic={"warmup_updates": 2})
    trainer = shop.trainer("warm", settings)
    start = copy.deepcopy(trainer.learner.model.state_dict())
    trainer.state.write("validation", 0, trainer.validate(0))
    trainer.state.write("metrics", 1, trainer.step(1))
    trainer.state.save(1, trainer.learner, trainer.accelerator)
    trainer.state.lock.close()
    resumed = shop.trainer("warm", settings)
    assert resumed.update == 1
    rows = [resumed.step(update) for update in (2, 3)]
    assert [row["rows_trained"] for row in rows] == [0, 16] and [row["loss"] == 0.0 for row in rows] == [True, False]
    assert all(row["value_loss"] > 0 for row in rows)
    for trained, model in ((False, trainer.learner.model), (True, resumed.learner.model)):
        assert all(torch.equal(start[name], value) for name, value in model.state_dict().items()) is not trained


def test_ppo_after_another_phase_starts_its_critic_from_that_policy(shop):
    first = {**PRETRAIN_NEGATIVE, "last_update": 3}
    parent = shop.run("parent", job(first, kept_updates=[3], optimizer_updates=[3], validation={"updates": [3]}))
    settings = ppo_job({"first_update": 4, "optimizer": "keep"}, validation={"updates": [6]})
    trainer = shop.trainer("second", settings, start=parent / "checkpoints/update000003/manifest.json")
    start = load_file(parent / "checkpoints/update000003/model.safetensors")
    for name, value in trainer.learner.critic.model.decoder.named_parameters():
        assert torch.equal(value, start[f"model.{name}"])
    trainer.run(shop.folder / "second/output")
    assert [row["update"] for row in metrics(shop.folder / "second/output")] == [4, 5, 6]


def test_a_foreign_critic_is_refused(shop, straight, tmp_path, policy):
    (folder,) = (shop.folder / "straight/state").glob("*/checkpoints/update000006")
    weights = load_file(folder / CRITIC)
    with pytest.raises(CheckpointError, match="critic.safetensors is missing"):
        load_critic(tmp_path, ValueModel(policy, 0))
    save_file(weights | {"score.bias": torch.zeros(2)}, tmp_path / CRITIC)
    with pytest.raises(CheckpointError, match="critic.safetensors does not fit the model"):
        load_critic(tmp_path, ValueModel(policy, 0))


def test_a_critic_and_its_estimator_come_together():
    for settings in (job() | {"critic": CRITIC_SETTINGS}, job({**PPO})):
        with pytest.raises(ValueError, match="critic: .* does not fit `estimator: (grpo|gae)`"):
            TrainSettings.from_json(json.dumps(settings))


@pytest.mark.parametrize("micro_batch_tokens", [40, 10_000], ids=["shared", "one process without a row"])
def test_two_processes_train_ppo_as_one_and_one_goes_on(shop, micro_batch_tokens):
    def until(last_update):
        kept = list(range(1, last_update + 1))
        training = {"eps": 1e-3, "micro_batch_tokens": micro_batch_tokens, "checkpoint_every": 1}
        validation = {"updates": [last_update]}
        return ppo_job({"last_update": last_update}, training, validation, kept_updates=kept, optimizer_updates=kept)

    def states(update):
        names = [f"{processes}_{micro_batch_tokens}/state" for processes in ("one", "two")]
        folders = [next((shop.folder / name).glob(f"*/checkpoints/update{update:06d}")) for name in names]
        return (tensors_of(folder)[0] for folder in folders)

    one, two = f"one_{micro_batch_tokens}", f"two_{micro_batch_tokens}"
    assert_equal_runs(shop.run(one, until(2)), launched(shop, two, until(2)), updates=(1, 2))
    assert shop.trainer(two, until(3)).learner.critic.updates() == 2
    assert_equal_runs(shop.run(one, until(3)), shop.run(two, until(3)))
    for update in (2, 3):
        ours, other = states(update)
        assert ours.keys() == other.keys() and "decoder.norm.weight" in ours and "score.bias|exp_avg_sq" in ours
        assert max((ours[name] - other[name]).abs().max().item() for name in ours) <= 1e-6


BASELINES = {
    "ppo": PPO,
    "reinforce_pp": {**PPO, "estimator": "reinforce_plus_plus"},
    "rloo": {**PPO, "estimator": "rloo"},
    "w_reinforce": {**PPO, "estimator": "psr_nsr", "positive_advantage_weight": 0.1},
    "nsr_decomposed": {**PPO, "estimator": "psr_nsr", "positive_advantage_weight": 0.0},
}


@pytest.mark.parametrize("method", BASELINES)
def test_every_baseline_learns_an_easy_answer(shop, method):
    """A third of the answers is right at the start; all problems have the same truth."""
    easy = make_problems(shop.folder / f"easy_{method}/train.parquet", 16, answers="1")
    changes = {"kept_updates": [20], "optimizer_updates": []}
    training = {"prompts_per_update": 8, "learning_rate": 2e-3, "checkpoint_every": 20}
    make = ppo_job if method == "ppo" else job
    settings = make({**BASELINES[method], "last_update": 20}, training, {"updates": []}, **changes)
    rewards = [row["reward_mean"] for row in metrics(shop.run(method, settings, train=easy))]
    assert rewards[0] < 0.5 < 0.8 < sum(rewards[-5:]) / 5
