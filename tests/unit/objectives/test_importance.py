"""Truncated importance sampling against a loop over tokens; null changes nothing."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from tiny import EOS, PREFIX, naive_logprobs
from tiny_training import POSTTRAIN_ALL, PRETRAIN_NEGATIVE, Workshop, job

from prerl.objectives.importance import importance_weights
from prerl.rollouts.transformers_sampler import TransformersSampler

CAP = 1.2


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("importance"))


class NoisySampler(TransformersSampler):
    """Reports log-probs that are off by up to half a nat, another amount for each token."""

    def generate(self, prompts, seeds, settings):
        noise = random.Random(0)
        rollouts = super().generate(prompts, seeds, settings)
        return [replace(r, logprobs=[x + noise.uniform(-0.5, 0.5) for x in r.logprobs]) for r in rollouts]


def train_once(shop, phase, cap, sampler=NoisySampler):
    """(what the first update trained on, its gradient before clipping, its metrics, the model before it)."""
    training = {"importance_cap": cap, "max_gap_nats": 9.0, "grad_clip": 1e9}
    trainer = shop.trainer(f"{phase['space']}{cap}{sampler.__name__}", job(phase, training))
    trainer.sampler = sampler(trainer.model, [EOS])
    model, seen = copy.deepcopy(trainer.model), []
    train = trainer._train
    trainer._train = lambda graded: seen.append(graded) or train(graded)
    metrics = trainer.step(1)
    return seen[0], torch.cat([p.grad.flatten() for p in trainer.model.parameters()]), metrics, model


def naive_gradient(model, graded, phase):
    """A loop over rows and tokens: w_row * sum_t -A min(P/P_sampler, cap) log P."""
    groups = graded.groups_R.tolist()
    rows = []
    for row, rollout in enumerate(graded.rollouts):
        own = [graded.rewards_R[i].item() for i in range(len(groups)) if groups[i] == groups[row]]
        advantage = graded.rewards_R[row].item() - sum(own) / len(own)
        if phase["advantage_std"]:
            advantage /= torch.tensor(own).std().item() + 1e-6
        tokens = rollout.token_ids
        if not phase.get("eos_in_mask", True) and rollout.finish_reason == "stop":
            tokens = tokens[:-1]
        rows.append((graded.contexts[row], tokens, rollout.logprobs, advantage))
    counting = [row for row in rows if phase["samples"] == "all" or row[3] < 0]
    total = sum(len(tokens) for _, tokens, _, _ in counting)
    loss, weights = 0.0, []
    for context, tokens, sampler, advantage in counting:
        if advantage == 0 or not tokens:
            continue
        with torch.no_grad():
            sampled_from = naive_logprobs(model, context, tokens)
        scored = naive_logprobs(model, context if phase["space"] == "posttrain" else [PREFIX], tokens)
        for i in range(len(tokens)):
            ratio = (sampled_from[i] - sampler[i]).exp()
            weights.append(ratio.item())
            loss = loss - advantage * min(ratio.item(), CAP) * scored[i] / total
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]), weights


@pytest.mark.parametrize("phase", [POSTTRAIN_ALL, PRETRAIN_NEGATIVE, POSTTRAIN_ALL | {"eos_in_mask": False}])
def test_the_gradient_is_that_of_a_loop_over_tokens(shop, phase):
    graded, gradient, metrics, model = train_once(shop, phase, CAP)
    expected, weights = naive_gradient(model, graded, phase)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)
    assert 0.1 < metrics["importance_cut"] < 0.9
    assert metrics["importance_mean"] == pytest.approx(sum(min(w, CAP) for w in weights) / len(weights), abs=1e-4)


@pytest.mark.parametrize("phase", [POSTTRAIN_ALL, PRETRAIN_NEGATIVE])
def test_null_asks_nothing_of_the_samplers_log_probs(shop, phase):
    """Bitwise, and without the weights' metrics; with a cap and a true sampler the weights are 1."""
    _, noisy, metrics, _ = train_once(shop, phase, None)
    _, true, _, _ = train_once(shop, phase, None, TransformersSampler)
    _, weighted, capped, _ = train_once(shop, phase, CAP, TransformersSampler)
    assert torch.equal(noisy, true) and "importance_mean" not in metrics
    torch.testing.assert_close(weighted, true, atol=1e-6, rtol=1e-4)
    assert capped["importance_mean"] == pytest.approx(1.0, abs=1e-4) and capped["importance_cut"] == 0.0


def test_worked_weights():
    trainer = [torch.tensor([0.5, 0.3]).log(), torch.tensor([0.2]).log()]
    sampler = [torch.tensor([0.25, 0.4]).log(), torch.tensor([0.2]).log()]
    weights, measured = importance_weights(trainer, sampler, 1.5)
    torch.testing.assert_close(torch.cat(weights), torch.tensor([1.5, 0.75, 1.0]))
    assert measured["importance_mean"] == pytest.approx(3.25 / 3) and measured["importance_cut"] == pytest.approx(1 / 3)
