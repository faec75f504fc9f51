"""Rows packed into one sequence against padded rows and against each row alone."""

import inspect

import pytest
import torch
from transformers import PreTrainedModel

import prerl.models.packing
from prerl.config.rollouts import SamplingSettings
from prerl.models.batching import prompt_groups
from prerl.models.logprobs import response_logprobs, token_statistics
from prerl.models.packing import pack_rows, packed_layout, packs_rows
from prerl.rollouts.transformers_sampler import TransformersSampler
from tiny import EOS, FAMILIES, family_model, flat_gradient, naive_logprobs, random_ids

SHAPES = [(5, 7), (1, 3), (12, 1), (3, 11), (3, 2), (20, 4), (1, 1)]
"""Tokens of context and response; the two rows of three context tokens have the same, and two more follow below."""


@pytest.fixture(scope="module")
def rows():
    """Rows alone, rows that share a prompt, the longest and the shortest of them with one token to answer."""
    generator = torch.Generator().manual_seed(1)
    contexts, responses = ([random_ids(generator, shape[part]) for shape in SHAPES] for part in (0, 1))
    contexts[4] = contexts[3]
    contexts += [contexts[5]] * 3  # not a neighbour of the first row with this context
    return contexts, responses + [random_ids(generator, length) for length in (6, 1, 9)]


def packed_model(family: str = "qwen3", checkpointing: bool = False) -> PreTrainedModel:
    model = family_model(family)
    pack_rows(model)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_and_each_row_alone_in_values_and_gradients(rows, family, checkpointing):
    padded, packed = family_model(family), packed_model(family, checkpointing)
    assert packs_rows(packed) and not packs_rows(padded)
    ours, theirs = response_logprobs(packed, *rows), response_logprobs(padded, *rows)
    alone = torch.cat([naive_logprobs(padded, c, r) for c, r in zip(*rows, strict=True)])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)
    weights = torch.linspace(-1, 1, len(ours)) / len(ours)
    difference = flat_gradient((ours * weights).sum(), packed) - flat_gradient((theirs * weights).sum(), padded)
    assert difference.abs().max() <= 1e-6
    statistics = [token_statistics(model, *rows) for model in (packed, padded)]
    torch.testing.assert_close(statistics[0].entropies, statistics[1].entropies, atol=1e-5, rtol=0)


def test_no_row_sees_another_and_nothing_is_padded(rows):
    model = packed_model()
    shapes = []
    model.get_decoder().register_forward_pre_hook(
        lambda _, arguments, keywords: shapes.append(tuple(keywords["input_ids"].shape)), with_kwargs=True
    )
    contexts, responses = rows
    with torch.no_grad():
        before = response_logprobs(model, contexts, responses)
        others = [*contexts[:2], [9] * len(contexts[2]), *contexts[3:]]
        after = response_logprobs(model, others, responses)
    stretches = [5 + 6, 1 + 2, 12, 3 + 10 + 1, 20 + 3, 1, 20 + 5 + 0 + 8]
    assert set(shapes) == {(1, sum(stretches))}
    third = slice(7 + 3, 7 + 3 + 1)
    assert not torch.equal(before[third], after[third])
    before[third] = after[third]
    assert torch.equal(before, after)


def test_samples_of_one_prompt_do_not_see_each_other(rows):
    model = packed_model()
    contexts, responses = rows
    with torch.no_grad():
        before = response_logprobs(model, contexts, responses)
        after = response_logprobs(model, contexts, [*responses[:-1], [9] * 9])
    assert torch.equal(before[:-9], after[:-9]) and not torch.equal(before[-9:], after[-9:])


def test_long_answers_take_their_prompt_along(rows, monkeypatch):
    monkeypatch.setattr(prerl.models.packing, "LONGEST_SHARING", 8)
    ids, _, layout = packed_layout(*rows, torch.device("cpu"))
    assert layout.begin == [28, 23, 20, 13, 12, 11, 4, 3, 1] and layout.continue_ == [(2, 5)]
    assert len(ids) == sum(layout.begin) + 5
    expected = response_logprobs(family_model("qwen3"), *rows)
    torch.testing.assert_close(response_logprobs(packed_model(), *rows), expected, atol=1e-5, rtol=0)


def reference(query, key, value, starts_q, starts_k, longest_q, longest_k, **options):
    """varlen_attn by full matrices: [T, heads, width], rows by their starts, causal, within the window."""
    inspect.signature(prerl.models.packing.varlen_attn.real).bind(
        query, key, value, starts_q, starts_k, longest_q, longest_k, **options
    )
    (before, after), longest = options["window_size"], longest_q + longest_k
    assert after == 0 and starts_q.dtype == starts_k.dtype == torch.int32
    assert longest_q == int(starts_q.diff().max()) and query.shape[0] == starts_q[-1]
    assert longest_k == int(starts_k.diff().max()) and key.shape[0] == starts_k[-1]
    repeats = query.shape[1] // key.shape[1]
    assert options["enable_gqa"] is (repeats > 1)
    key, value = (states.repeat_interleave(repeats, dim=1) for states in (key, value))
    output = []
    for row in range(len(starts_q) - 1):
        q, k, v = (
            states[starts[row] : starts[row + 1]]
            for states, starts in ((query, starts_q), (key, starts_k), (value, starts_k))
        )
        beside = len(k) - len(q)  # the last query beside the last key
        seen = torch.ones(len(q), len(k)).tril(beside).triu(beside - (longest if before == -1 else before))
        scores = torch.einsum("qhd,khd->hqk", q, k) * options["scale"]
        output.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(seen == 0, -torch.inf).softmax(-1), v))
    return torch.cat(output)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_the_flash_kernel_is_given_the_same_attention(rows, family, monkeypatch):
    """Its place is taken by a reference on the CPU: heads, rows, scale and mask are those of the padded path."""
    expected = response_logprobs(family_model(family), *rows)
    reference.real = prerl.models.packing.varlen_attn
    monkeypatch.setattr(prerl.models.packing, "varlen_attn", reference)
    monkeypatch.setattr(prerl.models.packing, "fits_flash_attention", lambda query: True)
    torch.testing.assert_close(response_logprobs(packed_model(family), *rows), expected, atol=1e-5, rtol=0)


def test_heads_are_repeated_for_a_kernel_that_knows_no_groups(rows, monkeypatch):
    """A GPU's in float32: the same values, and as many key heads as query heads reach torch's attention."""
    expected = response_logprobs(packed_model(), *rows)
    heads = []

    def spy(query, key, value, **options):
        heads.append((query.shape[1], key.shape[1], value.shape[1]))
        return attention(query, key, value, **options)

    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(prerl.models.packing, "scaled_dot_product_attention", spy)
    assert torch.equal(response_logprobs(packed_model(), *rows), expected) and set(heads) == {(4, 2, 2)}
    heads.clear()
    monkeypatch.setattr(prerl.models.packing, "knows_grouped_heads", lambda query: False)
    torch.testing.assert_close(response_logprobs(packed_model(), *rows), expected, atol=1e-5, rtol=0)
    assert set(heads) == {(4, 4, 4)}


def test_a_packing_model_still_samples_as_any_other(monkeypatch):
    """Four query heads on two key heads: while decoding they are positions of those, whose keys are not repeated."""
    shapes = set()

    def spy(query, key, value, **options):
        shapes.add((query.shape[1:3], key.shape[1]))
        return attention(query, key, value, **options)

    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(prerl.models.packing, "scaled_dot_product_attention", spy)
    settings = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=8, batch_rows=8)
    prompts, seeds = [[20] * 3, [21] * 7], [[1, 2], [3, 4]]
    models = packed_model(), family_model("qwen3")
    ours, theirs = (TransformersSampler(model, EOS).generate(prompts, seeds, settings) for model in models)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert shapes == {((2, 2), 2)}


def test_groups_of_one_prompt_stay_together_as_far_as_they_fit():
    contexts = [[1, 2]] * 3 + [[5]] * 2 + [[1, 2]] + [[8, 9, 10]] * 2
    responses = [[3], [4, 5], [6, 7, 8], [1, 1], [], [4], [1, 2], [3, 4, 5, 6]]
    rows = [0, 1, 2, 3, 5, 6, 7]
    groups, tokens = prompt_groups(contexts, responses, rows, 100)
    assert groups == [[0, 1, 2], [3], [5], [6, 7]] and tokens == [2 + 0 + 1 + 2, 2, 2, 3 + 1 + 3]
    groups, tokens = prompt_groups(contexts, responses, rows, 4)
    assert groups == [[2], [0, 1], [3], [5], [7], [6]] and tokens == [4, 3, 2, 2, 6, 4]
    assert prompt_groups(contexts, responses, [], 4) == ([], [])
