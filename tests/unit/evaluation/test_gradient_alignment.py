"""Gradient alignment against naive autograd, its two controls, and the token table."""

import math
from collections import Counter

import pytest
import torch

from prerl.evaluation.gradient_alignment import (
    AlignmentRollout,
    flat_gradient,
    measure_alignment,
    partner_order,
    token_agreement,
)
from tiny import PREFIX, naive_logprobs, random_ids, tiny_model
from tiny import flat_gradient as naive_gradient


@pytest.fixture(scope="module")
def model():
    return tiny_model(2)


@pytest.fixture(scope="module")
def rollouts():
    generator = torch.Generator().manual_seed(4)
    contexts = {question: random_ids(generator, 4 + len(question)) for question in ("a", "bb", "ccc")}
    counts = {"a": 3, "bb": 2, "ccc": 1}
    return [
        AlignmentRollout(question, sample, contexts[question], random_ids(generator, 3 + 2 * sample), sample == 0)
        for question, count in counts.items()
        for sample in range(count)
    ]


def naive_row(model, rollout, other, temperature):
    def gradient(context, response):
        return naive_gradient(naive_logprobs(model, context, response, temperature).sum(), model).double()

    y, yx = gradient([PREFIX], rollout.response), gradient(rollout.context, rollout.response)
    controls = {
        "": (yx, len(rollout.response)),
        "other_x_": (gradient(other.context, rollout.response), len(rollout.response)),
        "other_xy_": (gradient(other.context, other.response), len(other.response)),
    }
    row = {"norm_yx": yx.norm().item(), "norm_y": y.norm().item()}
    for name, (g, tokens) in controls.items():
        inner = (y * g).sum().item()
        row[f"{name}inner_sum"] = inner
        row[f"{name}inner_mean"] = inner / len(rollout.response) / tokens
        row[f"{name}cosine"] = inner / (y.norm() * g.norm()).item()
    with torch.no_grad():
        logp_yx = naive_logprobs(model, rollout.context, rollout.response, temperature)
        logp_y = naive_logprobs(model, [PREFIX], rollout.response, temperature)
    row |= {"logp_yx": logp_yx.mean().item(), "logp_y": logp_y.mean().item()}
    return row | {"abs_logp_gap": (logp_yx - logp_y).abs().mean().item()}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_inner_products_and_cosines_against_naive_autograd(model, rollouts, temperature):
    rows = list(measure_alignment(model, rollouts, PREFIX, temperature))
    partners = [rollouts[i] for i in partner_order(rollouts)]
    for row, rollout, other in zip(rows, rollouts, partners, strict=True):
        naive = naive_row(model, rollout, other, temperature)
        assert {name: row[name] for name in naive} == pytest.approx(naive, rel=1e-4, abs=1e-5)
        assert (row["question"], row["sample"], row["right"]) == (rollout.question, rollout.sample, rollout.right)
        assert row["tokens"] == len(rollout.response) and set(row) == set(naive) | {
            "question",
            "sample",
            "right",
            "tokens",
        }
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_inner_product_of_means_is_the_inner_product_of_mean_log_probs(model, rollouts):
    rollout = rollouts[2]
    row = list(measure_alignment(model, rollouts, PREFIX))[2]
    y = naive_gradient(naive_logprobs(model, [PREFIX], rollout.response).mean(), model)
    yx = naive_gradient(naive_logprobs(model, rollout.context, rollout.response).mean(), model)
    assert row["inner_mean"] == pytest.approx(torch.dot(y, yx).item(), rel=1e-4)


def test_all_parameters_count_and_the_tied_embedding_once(model, rollouts):
    gradient, logprobs = flat_gradient(model, rollouts[0].context, rollouts[0].response)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert gradient.shape == (sum(parameter.numel() for parameter in model.parameters()),)
    assert logprobs.shape == (len(rollouts[0].response),)


def test_cosine_is_1_when_x_is_the_prefix(model, rollouts):
    own = [AlignmentRollout(r.question, r.sample, [PREFIX], r.response, r.right) for r in rollouts]
    for row in measure_alignment(model, own, PREFIX):
        assert row["cosine"] == pytest.approx(1.0, abs=1e-6) and row["other_x_cosine"] == pytest.approx(1.0, abs=1e-6)
        assert row["inner_sum"] == pytest.approx(row["norm_y"] ** 2, rel=1e-5) and row["abs_logp_gap"] < 1e-6
        assert row["other_xy_cosine"] < 0.99


def test_the_partner_is_of_another_question_and_all_serve(rollouts):
    partners = partner_order(rollouts)
    assert all(rollouts[i].question != rollouts[p].question for i, p in enumerate(partners))
    assert partners == [3, 4, 3, 5, 5, 0]  # the same place in the next question's list
    even = [AlignmentRollout(q, s, [1], [2], True) for q in "abcd" for s in range(5)]
    assert set(Counter(partner_order(even)).values()) == {1}
    mixed = [even[i] for i in (0, 7, 13, 1, 19, 6)]  # order of the file does not matter for being another question
    assert all(mixed[i].question != mixed[p].question for i, p in enumerate(partner_order(mixed)))
    with pytest.raises(ValueError, match="at least two questions"):
        partner_order(even[:5])


def test_controls_differ_from_the_measurement(model, rollouts):
    for row in measure_alignment(model, rollouts, PREFIX):
        assert row["other_x_inner_sum"] != row["inner_sum"] != row["other_xy_inner_sum"]


def test_a_zero_gradient_is_an_error(model, rollouts):
    broken = tiny_model(2)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.zero_()
    with pytest.raises(ValueError, match="exactly zero"):
        list(measure_alignment(broken, rollouts, PREFIX))


def test_token_agreement(model, rollouts):
    rows = list(token_agreement(model, rollouts, PREFIX, temperature=0.8))
    assert len(rows) == sum(len(rollout.response) for rollout in rollouts)
    start = 0
    for rollout in rollouts:
        own = rows[start : start + len(rollout.response)]
        start += len(own)
        with torch.no_grad():
            ids = torch.tensor([rollout.context + rollout.response])
            given_x = model(input_ids=ids).logits[0, len(rollout.context) - 1 : -1].div(0.8).log_softmax(-1)
            without = model(input_ids=torch.tensor([[PREFIX, *rollout.response]])).logits[0, :-1]
            without = without.div(0.8).log_softmax(-1)
        for position, (row, token) in enumerate(zip(own, rollout.response, strict=True)):
            assert row == {
                "question": rollout.question,
                "sample": rollout.sample,
                "position": position,
                "logp_yx": pytest.approx(given_x[position, token].item(), abs=1e-5),
                "logp_y": pytest.approx(without[position, token].item(), abs=1e-5),
                "entropy_yx": pytest.approx(-(given_x[position].exp() * given_x[position]).sum().item(), abs=1e-5),
                "same_top1": bool(given_x[position].argmax() == without[position].argmax()),
            }
    assert {row["same_top1"] for row in rows} == {True, False}
    assert all(0 < row["entropy_yx"] < math.log(model.config.vocab_size) for row in rows)
