"""One whole update of a tiny Qwen3 against a naive loss: full logits, every row scored, nothing packed or skipped."""

import copy
import itertools
from unittest import mock

import pytest
import torch
from accelerate import Accelerator

import prerl.models.logprobs
from prerl.models.batching import row_logprobs
from prerl.models.packing import pack_rows
from prerl.objectives.advantages import group_advantages
from prerl.objectives.objective import Objective
from prerl.objectives.token_mean import loss_rows, official_packing, row_weights
from prerl.rollouts.graded import GradedRollouts
from prerl.rollouts.interface import Rollout
from prerl.training.updates import measure_spaces, policy_update
from tiny import (
    EOS,
    FAMILIES,
    PREFIX,
    VOCABULARY,
    family_model,
    flat_gradient,
    naive_logprobs,
    random_ids,
    tiny_model,
)

ROWS, GROUP = 16, 4
OFFICIAL = {"token_mean": "official", "max_tokens_per_micro_batch": 24, "ranks": 2}
GLOBAL = {"token_mean": "global", "max_tokens_per_micro_batch": 0, "ranks": 1}
SPACES = ["posttrain", "pretrain"]
SAMPLES = ["all", "positive", "negative"]


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def model():
    return tiny_model(3)


@pytest.fixture(scope="module")
def rollouts():
    """(prompts, responses, rewards, groups): every second row closed by EOS; the first group is all right."""
    generator = torch.Generator().manual_seed(7)
    prompts = [random_ids(generator, 3 + group) for group in range(ROWS // GROUP) for _ in range(GROUP)]
    lengths = torch.randint(2, 12, (ROWS,), generator=generator).tolist()
    responses = [random_ids(generator, n) + [EOS] * (row % 2) for row, n in enumerate(lengths)]
    rewards = torch.tensor([1.0] * 4 + [1, 0, 0, 0] + [0, 1, 1, 0] + [0, 1, 0, 1])
    return prompts, responses, rewards, torch.arange(ROWS) // GROUP


def make_objective(space, samples, mean, **changes):
    values = {
        "space": space,
        "samples": samples,
        "coefficient": 0.5,
        "advantage_std": space == "posttrain",
        "eos_in_mask": True,
        "clip_low": 0.2,
        "clip_high": 0.2,
    }
    return Objective(**values | mean | changes)


def update_arguments(objective, rollouts):
    prompts, responses, rewards, groups = rollouts
    advantages = group_advantages(rewards, groups, objective.advantage_std)
    weights = row_weights(
        torch.tensor([len(response) for response in responses]),
        loss_rows(advantages, objective.samples),
        objective,
        [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)],
    )
    contexts = prompts if objective.space == "posttrain" else [[PREFIX]] * ROWS
    return contexts, responses, advantages, weights


def run_update(model, accelerator, arguments, micro_batch_tokens=64, grad_clip=1e9, temperature=1.0):
    """(flat gradient, metrics) of policy_update; the step itself has learning rate 0."""
    own = copy.deepcopy(model)
    metrics = policy_update(
        own,
        torch.optim.SGD(own.parameters(), lr=0.0),
        accelerator,
        *arguments,
        clip=(0.2, 0.2),
        temperature=temperature,
        micro_batch_tokens=micro_batch_tokens,
        grad_clip=grad_clip,
    )
    return torch.cat([parameter.grad.reshape(-1) for parameter in own.parameters()]), metrics


def naive_loss(model, objective, rollouts, temperature=1.0):
    """PPO's loss written out: advantage by group, ratio, clip, mask by sign, token mean of batch or micro-batch."""
    prompts, responses, rewards, groups = rollouts
    advantages = torch.zeros(ROWS)
    for group in range(ROWS // GROUP):
        own = rewards[groups == group]
        centred = own - own.mean()
        advantages[groups == group] = centred / (own.std() + 1e-6) if objective.advantage_std else centred
    per_row, mask = [], []
    for row in range(ROWS):
        context = prompts[row] if objective.space == "posttrain" else [PREFIX]
        logprobs = naive_logprobs(model, context, responses[row], temperature)
        ratio = (logprobs - logprobs.detach()).exp()
        a = advantages[row]
        per_row.append(torch.maximum(-a * ratio, -a * ratio.clamp(0.8, 1.2)))
        mask.append({"all": True, "positive": a > 0, "negative": a < 0}[objective.samples])
    if objective.token_mean == "global":
        return objective.coefficient * torch.cat([per_row[row] for row in range(ROWS) if mask[row]]).mean()
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    total = torch.zeros(())
    for rank in official_packing(lengths, objective.max_tokens_per_micro_batch, objective.ranks):
        for rows in rank:
            chosen = [per_row[row] for row in rows if mask[row]]
            if chosen:
                share = len(rows) / (ROWS // objective.ranks)
                total = total + torch.cat(chosen).mean() * share / objective.ranks
    return objective.coefficient * total


@pytest.mark.parametrize("mean", [GLOBAL, OFFICIAL], ids=["global", "official"])
@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("space", SPACES)
def test_gradient_of_the_update_equals_the_naive_loss(model, accelerator, rollouts, space, samples, mean):
    objective = make_objective(space, samples, mean)
    loss = naive_loss(model, objective, rollouts)
    expected = flat_gradient(loss, model)
    for micro_batch_tokens in (16, 64, 10_000):
        gradient, metrics = run_update(
            model, accelerator, update_arguments(objective, rollouts), micro_batch_tokens=micro_batch_tokens
        )
        assert (gradient - expected).abs().max() <= 1e-6
        assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-6)
        assert metrics["grad_norm"] == pytest.approx(expected.norm().item(), rel=1e-5)
        assert metrics["clip_fraction"] == 0.0
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(("space", "samples"), [("posttrain", "all"), ("pretrain", "negative")])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_of_each_family_equals_the_naive_loss(accelerator, rollouts, family, space, samples):
    """GRPO and NSR-PreRL, packed, the log-softmax in chunks; the naive loss is of plain transformers' logits."""
    model, objective = family_model(family), make_objective(space, samples, GLOBAL)
    expected = flat_gradient(naive_loss(model, objective, rollouts), model)
    pack_rows(model)
    with mock.patch.dict(prerl.models.logprobs.CHUNK_LOGITS, {"cpu": 5 * VOCABULARY}):
        gradient, _ = run_update(model, accelerator, update_arguments(objective, rollouts))
    assert (gradient - expected).norm() <= 1e-5 * expected.norm() and expected.abs().max() > 1e-3


def test_the_official_case_has_a_micro_batch_without_a_counting_token(rollouts):
    prompts, responses, rewards, groups = rollouts
    positive = group_advantages(rewards, groups, False) > 0
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    micro_batches = itertools.chain(*official_packing(lengths, 24, 2))
    assert any(not positive[rows].any() for rows in micro_batches)


def test_the_cases_differ(model, accelerator, rollouts):
    """Twelve objectives, twelve gradients: none of the comparisons above is the same one twice."""
    gradients = [
        run_update(model, accelerator, update_arguments(make_objective(space, samples, mean), rollouts))[0]
        for space, samples, mean in itertools.product(SPACES, SAMPLES, (GLOBAL, OFFICIAL))
    ]
    assert all((a - b).norm() > 0.02 * b.norm() for a, b in itertools.combinations(gradients, 2))


def test_coefficient_and_temperature(model, accelerator, rollouts):
    half = make_objective("pretrain", "negative", GLOBAL)
    whole = make_objective("pretrain", "negative", GLOBAL, coefficient=1.0)
    gradient, _ = run_update(model, accelerator, update_arguments(half, rollouts))
    doubled, _ = run_update(model, accelerator, update_arguments(whole, rollouts))
    torch.testing.assert_close(doubled, 2 * gradient, atol=1e-6, rtol=1e-5)
    expected = flat_gradient(naive_loss(model, half, rollouts, temperature=0.7), model)
    cold, _ = run_update(model, accelerator, update_arguments(half, rollouts), temperature=0.7)
    assert (cold - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("mean", [GLOBAL, OFFICIAL], ids=["global", "official"])
def test_an_advantage_a_token_weighs_that_token(model, accelerator, rollouts, mean):
    """PPO and REINFORCE++ against the loss of each token written out; equal advantages of a row are a row's."""
    objective = make_objective("posttrain", "all", mean, coefficient=1.0)
    contexts, responses, by_row, weights = update_arguments(objective, rollouts)
    generator = torch.Generator().manual_seed(2)
    by_token = [torch.randn(len(response), generator=generator) for response in responses]
    by_token[3] = torch.zeros(len(responses[3]))
    by_token[4][0] = 0.0
    loss = torch.zeros(())
    for row in range(ROWS):
        logprobs = naive_logprobs(model, contexts[row], responses[row])
        for token, advantage in enumerate(by_token[row]):
            loss = loss - weights[row].float() * advantage * logprobs[token]
    expected = flat_gradient(loss, model)
    for micro_batch_tokens in (16, 10_000):
        arguments = (contexts, responses, by_token, weights)
        gradient, metrics = run_update(model, accelerator, arguments, micro_batch_tokens)
        assert (gradient - expected).abs().max() <= 1e-6
        assert metrics["rows_trained"] == ROWS - 1
    expanded = [torch.full((len(response),), own.item()) for response, own in zip(responses, by_row, strict=True)]
    ours, by_rows = (run_update(model, accelerator, (contexts, responses, a, weights)) for a in (expanded, by_row))
    assert torch.equal(ours[0], by_rows[0]) and ours[1] == by_rows[1]


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_any_split_of_the_rows_gives_the_same_gradient(model, accelerator, rollouts, parts):
    contexts, responses, advantages, weights = update_arguments(make_objective("posttrain", "all", GLOBAL), rollouts)
    whole, _ = run_update(model, accelerator, (contexts, responses, advantages, weights))
    total = torch.zeros_like(whole)
    for part in range(parts):
        own = torch.arange(ROWS) % parts == part
        total += run_update(model, accelerator, (contexts, responses, advantages, weights * own))[0]
    assert (total - whole).abs().max() <= 1e-6


@pytest.mark.parametrize("samples", SAMPLES)
def test_only_rows_that_count_reach_the_model(model, accelerator, rollouts, samples):
    contexts, responses, advantages, weights = update_arguments(make_objective("pretrain", samples, GLOBAL), rollouts)
    counting = {"all": advantages != 0, "positive": advantages > 0, "negative": advantages < 0}[samples]
    _, metrics = run_update(model, accelerator, (contexts, responses, advantages, weights))
    tokens = sum(len(response) for row, response in enumerate(responses) if counting[row])
    assert (metrics["rows_trained"], metrics["tokens_trained"]) == (int(counting.sum()), tokens)


def test_gradient_is_clipped_to_the_norm(model, accelerator, rollouts):
    arguments = update_arguments(make_objective("posttrain", "all", GLOBAL), rollouts)
    plain, _ = run_update(model, accelerator, arguments)
    clipped, metrics = run_update(model, accelerator, arguments, grad_clip=0.1)
    assert metrics["grad_norm"] == pytest.approx(plain.norm().item(), rel=1e-5) and plain.norm() > 0.2
    torch.testing.assert_close(clipped, plain * (0.1 / plain.norm()), atol=1e-6, rtol=1e-4)


def test_without_a_counting_row_the_optimizer_still_steps_and_nothing_is_nan(model, accelerator, rollouts):
    """The official code: weight decay and the decay of the moments go on."""
    contexts, responses, _, weights = update_arguments(make_objective("posttrain", "all", GLOBAL), rollouts)
    own = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-2, weight_decay=0.1)
    settings = {"clip": (0.2, 0.2), "temperature": 1.0, "micro_batch_tokens": 64, "grad_clip": 1.0}
    metrics = policy_update(own, optimizer, accelerator, contexts, responses, torch.zeros(ROWS), weights, **settings)
    assert metrics == {"loss": 0.0, "grad_norm": 0.0, "clip_fraction": 0.0, "tokens_trained": 0, "rows_trained": 0}
    for before, after in zip(model.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(after, before * (1 - 1e-3))
        assert optimizer.state[after]["step"] == 1


def test_a_gradient_that_is_not_finite_stops_before_the_step(model, accelerator, rollouts):
    contexts, responses, advantages, weights = update_arguments(make_objective("posttrain", "all", GLOBAL), rollouts)
    own = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(own.parameters())
    settings = {"clip": (0.2, 0.2), "temperature": 1.0, "micro_batch_tokens": 64, "grad_clip": 1.0}
    with pytest.raises(FloatingPointError, match="lower training.learning_rate"):
        policy_update(own, optimizer, accelerator, contexts, responses, advantages, weights * torch.inf, **settings)
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), model.parameters(), strict=True))


def test_an_empty_response_after_the_eos_ablation_is_skipped(model, accelerator, rollouts):
    contexts, responses, advantages, weights = update_arguments(make_objective("posttrain", "all", GLOBAL), rollouts)
    shorter = [[] if row == 5 else response for row, response in enumerate(responses)]
    assert advantages[5] != 0
    _, metrics = run_update(model, accelerator, (contexts, shorter, advantages, weights))
    assert metrics["rows_trained"] == 11  # 12 rows of mixed groups, one without a token


def graded(model, rollouts, gap=0.0):
    prompts, responses, rewards, groups = rollouts
    with torch.no_grad():
        own = [naive_logprobs(model, p, r) + gap for p, r in zip(prompts, responses, strict=True)]
    samples = [Rollout(r, logprobs.tolist(), "length") for r, logprobs in zip(responses, own, strict=True)]
    return GradedRollouts(prompts, samples, rewards, groups, [0] * ROWS, [0] * ROWS)


@pytest.mark.parametrize("measured", [1, 2, 4])
def test_measured_log_probs_of_both_spaces(model, accelerator, rollouts, measured):
    prompts, responses, rewards, _ = rollouts
    result = measure_spaces(model, accelerator, graded(model, rollouts, gap=0.25), PREFIX, measured, 1.0, 48)
    assert result["gap_mean"] == pytest.approx(0.25, abs=1e-5) and result["gap_max"] == pytest.approx(0.25, abs=1e-5)
    for name, right in (("right", 1.0), ("wrong", 0.0)):
        chosen = [row for row in range(ROWS) if rewards[row] == right and row % GROUP < measured]
        with torch.no_grad():
            yx = torch.cat([naive_logprobs(model, prompts[row], responses[row]) for row in chosen])
            y = torch.cat([naive_logprobs(model, [PREFIX], responses[row]) for row in chosen])
        assert result[f"logp_yx_{name}"] == pytest.approx(yx.mean().item(), abs=1e-5)
        assert result[f"logp_y_{name}"] == pytest.approx(y.mean().item(), abs=1e-5)


def test_measured_log_probs_are_none_without_such_a_row(model, accelerator, rollouts):
    prompts, responses, _, groups = rollouts
    wrong = graded(model, (prompts, responses, torch.zeros(ROWS), groups))
    result = measure_spaces(model, accelerator, wrong, PREFIX, 4, 1.0, 48)
    assert result["logp_yx_right"] is None and result["logp_y_right"] is None and result["logp_yx_wrong"] < 0


def test_row_logprobs_keep_row_order_over_micro_batches(model, accelerator, rollouts):
    prompts, responses, _, _ = rollouts
    with torch.no_grad():
        for own, prompt, response in zip(
            row_logprobs(model, accelerator, prompts, responses, 1.0, 20), prompts, responses, strict=True
        ):
            torch.testing.assert_close(own, naive_logprobs(model, prompt, response), atol=1e-5, rtol=0)
