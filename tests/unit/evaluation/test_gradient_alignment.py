"""Gradient alignment against naive autograd, its controls, groups of weights, and the token table."""

import math
from collections import Counter

import pytest
import torch

from prerl.evaluation.gradient_alignment import (
    COMPARED,
    AlignmentRollout,
    Contexts,
    gradient_of,
    in_rounds,
    measure_alignment,
    other_questions,
    parameter_groups,
    products,
    shuffled_words,
    token_agreement,
)
from tiny import PREFIX, naive_logprobs, random_ids, tiny_model

QUESTIONS = ("a", "bb", "ccc", "dddd")


@pytest.fixture(scope="module")
def model():
    return tiny_model(2)


def random_contexts(generator, lengths=4):
    return {question: random_ids(generator, lengths + len(question)) for question in QUESTIONS}


@pytest.fixture(scope="module")
def contexts():
    generator = torch.Generator().manual_seed(5)
    return Contexts(random_contexts(generator), random_contexts(generator), random_ids(generator, 3))


@pytest.fixture(scope="module")
def rollouts():
    generator = torch.Generator().manual_seed(4)
    return in_rounds(
        [
            AlignmentRollout(question, sample, random_ids(generator, 3 + 2 * sample))
            for question in QUESTIONS
            for sample in range(2)
        ]
    )


def measured(model, rollouts, contexts, chosen=None, temperature=1.0):
    chosen = range(len(rollouts)) if chosen is None else chosen
    return list(measure_alignment(model, rollouts, chosen, contexts, PREFIX, 2, temperature))


def naive_gradient(model, context, response, temperature, names):
    model.zero_grad()
    naive_logprobs(model, context, response, temperature).sum().backward()
    parameters = dict(model.named_parameters())
    return torch.cat([parameters[name].grad.reshape(-1) for name in names]).double()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_comparison_and_group_against_naive_autograd(model, rollouts, contexts, temperature):
    groups = parameter_groups(model)
    before = rollouts[-1]
    for rollout, rows in measured(model, rollouts, contexts, temperature=temperature):
        y, own_x = rollout.response, contexts.own[rollout.question]
        others = other_questions(list(QUESTIONS), rollout.question, rollout.sample, 2)
        sides = {
            ("own_x", 0): (own_x, y),
            **{("other_x", draw): (contexts.own[other], y) for draw, other in enumerate(others)},
            ("shuffled_x", 0): (contexts.shuffled[rollout.question], y),
            ("empty_x", 0): (contexts.empty, y),
            ("other_xy", 0): (contexts.own[before.question], before.response),
        }
        before = rollout
        assert len(rows) == (len(sides) + 1) * len(groups)
        assert {row["compared"] for row in rows} == set(COMPARED)
        for row in rows:
            if row["compared"] == "shuffled_y":
                continue
            names, (context, response) = groups[row["group"]], sides[row["compared"], row["draw"]]
            a = naive_gradient(model, [PREFIX], y, temperature, names)
            b = naive_gradient(model, context, response, temperature, names)
            inner, norms = (a @ b).item(), (a.norm() * b.norm()).item()
            assert row["inner_sum"] == pytest.approx(inner, abs=1e-5 * norms)
            assert row["inner_mean"] == pytest.approx(row["inner_sum"] / len(y) / len(response), rel=1e-12)
            assert row["cosine"] == pytest.approx(inner / norms, abs=1e-5)
            assert (row["norm_y"], row["norm"]) == pytest.approx((a.norm().item(), b.norm().item()), rel=1e-5)


def test_inner_product_of_more_than_fits_in_the_cache():
    numbers = torch.arange(70_000.0).reshape(2, 35_000)  # whole numbers below 2**24: each product with 3 is exact
    assert products({"weight": numbers}, {"weight": torch.full((2, 35_000), 3.0)}) == {"weight": 3 * 69_999 * 35_000}


def test_shuffled_y_has_the_same_tokens_on_both_sides(model, contexts):
    """With one token there is nothing to shuffle: the comparison is the own x's."""
    short = in_rounds([AlignmentRollout(question, 0, [7 + len(question)]) for question in QUESTIONS])
    for _, rows in measured(model, short, contexts):
        values = {row["compared"]: row["cosine"] for row in rows if row["group"] == "all"}
        assert values["shuffled_y"] == pytest.approx(values["own_x"], abs=1e-6)


def test_parts_of_the_rollouts_give_the_rows_of_the_whole(model, rollouts, contexts):
    whole = measured(model, rollouts, contexts)
    parts = [measured(model, rollouts, contexts, chosen) for chosen in (range(3), range(3, 8))]
    assert parts[0] + parts[1] == whole


def test_groups_share_the_weights_out(model):
    groups = parameter_groups(model)
    names = [name for name, _ in model.named_parameters()]
    kinds = [name for kind in ("embedding and head", "attention", "MLP", "norms") for name in groups[kind]]
    assert sorted(kinds) == sorted(names) == sorted(groups["all"])
    layers = [name for depth in ("early", "middle", "late") for name in groups.get(depth, [])]
    assert sorted(layers) == sorted(name for name in names if ".layers." in name)
    assert "model.layers.0.self_attn.q_norm.weight" in groups["norms"]


def test_all_parameters_count_and_the_tied_embedding_once(model, rollouts, contexts):
    gradient, logprobs = gradient_of(model, contexts.own["a"], rollouts[0].response)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(g.numel() for g in gradient.values()) == sum(p.numel() for p in model.parameters())
    assert logprobs.shape == (len(rollouts[0].response),)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cosine_is_1_when_x_is_the_prefix(model, rollouts):
    prefix = dict.fromkeys(QUESTIONS, [PREFIX])
    for _, rows in measured(model, rollouts, Contexts(prefix, prefix, [PREFIX])):
        values = {row["compared"]: row for row in rows if row["group"] == "all"}
        for name in ("own_x", "other_x", "shuffled_x", "empty_x", "shuffled_y"):
            assert values[name]["cosine"] == pytest.approx(1.0, abs=1e-6)
        assert values["own_x"]["inner_sum"] == pytest.approx(values["own_x"]["norm_y"] ** 2, rel=1e-5)
        assert values["other_xy"]["cosine"] < 0.99


def test_neighbours_in_rounds_answer_two_questions():
    rollouts = [AlignmentRollout(question, sample, [2]) for question in "abcd" for sample in range(5)]
    ordered = in_rounds(rollouts[7:] + rollouts[:7])
    assert {(a.question, a.sample) for a in ordered} == {(a.question, a.sample) for a in rollouts}
    assert all(ordered[i - 1].question != ordered[i].question for i in range(20))
    with pytest.raises(ValueError, match="at least two questions"):
        in_rounds(rollouts[:5])
    with pytest.raises(ValueError, match="unequal numbers"):
        in_rounds(rollouts[:-1])


def test_other_questions_differ_and_serve_equally_often():
    questions = list("abcdefg")
    served = Counter()
    for question in questions:
        for sample in range(4):
            others = other_questions(questions, question, sample, 3)
            assert question not in others and len(set(others)) == 3
            served.update(others)
    assert set(served.values()) == {12}  # 7 questions x 4 samples x 3 draws over 7
    with pytest.raises(ValueError, match="7 other problems of 6"):
        other_questions(questions, "a", 0, 7)


def test_words_are_shuffled_or_the_characters_of_one_word():
    assert sorted(shuffled_words("one two two three", "s").split()) == ["one", "three", "two", "two"]
    assert shuffled_words("one two three four", "s") != "one two three four"
    assert sorted(shuffled_words("12+34=", "s")) == sorted("12+34=") and " " not in shuffled_words("12+34=", "s")


def test_a_zero_gradient_is_an_error(rollouts, contexts):
    broken = tiny_model(2)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.zero_()
    with pytest.raises(ValueError, match="exactly zero"):
        measured(broken, rollouts, contexts)


def test_token_agreement(model, rollouts, contexts):
    seen = set()
    for rollout in rollouts:
        context = contexts.own[rollout.question]
        rows = token_agreement(model, rollout, context, PREFIX, temperature=0.8)
        with torch.no_grad():
            ids = torch.tensor([context + rollout.response])
            given_x = model(input_ids=ids).logits[0, len(context) - 1 : -1].div(0.8).log_softmax(-1)
            without = model(input_ids=torch.tensor([[PREFIX, *rollout.response]])).logits[0, :-1]
            without = without.div(0.8).log_softmax(-1)
        for position, (row, token) in enumerate(zip(rows, rollout.response, strict=True)):
            assert row == {
                "position": position,
                "logp_yx": pytest.approx(given_x[position, token].item(), abs=1e-5),
                "logp_y": pytest.approx(without[position, token].item(), abs=1e-5),
                "entropy_yx": pytest.approx(-(given_x[position].exp() * given_x[position]).sum().item(), abs=1e-5),
                "same_top1": bool(given_x[position].argmax() == without[position].argmax()),
            }
            assert 0 < row["entropy_yx"] < math.log(model.config.vocab_size)
            seen.add(row["same_top1"])
    assert seen == {True, False}
