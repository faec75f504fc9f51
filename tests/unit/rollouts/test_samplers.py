"""Sampling: the same tokens whatever the batch, true probabilities, ends, and log-probs equal to the trainer's."""

import itertools
import random
import sys

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicLayer

from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.core.errors import UserError
from prerl.models.logprobs import response_logprobs
from prerl.models.packing import pack_rows
from prerl.rollouts.engines import build_sampler
from prerl.rollouts.interface import sample_seed
from prerl.rollouts.transformers_sampler import GrowingLayer, TransformersSampler, draw_tokens
from tiny import EOS, FAMILIES, TOKENIZER, VOCABULARY, family_model, random_ids, tiny_model

NEW_TOKENS = 24
SETTINGS = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=NEW_TOKENS, batch_rows=256)


@pytest.fixture(scope="module")
def model():
    """Ends an answer within a few tokens or not at all, about half and half."""
    tiny = tiny_model(1)
    tiny.lm_head.weight = torch.nn.Parameter(tiny.lm_head.weight.clone())
    with torch.no_grad():
        tiny.lm_head.weight[EOS] *= 1.2
    return tiny


@pytest.fixture(scope="module")
def sampler(model):
    return TransformersSampler(model, [EOS])


@pytest.fixture(scope="module")
def prompts():
    """Lengths 20, 17 and 3: left padding of 0, 3 and 17 where they are decoded together."""
    generator = torch.Generator().manual_seed(2)
    return [random_ids(generator, length) for length in (20, 17, 3, 17, 20)]


def seeds_of(prompts, samples, run=0):
    return [[sample_seed(run, "test", prompt, sample) for sample in range(samples)] for prompt in range(len(prompts))]


def naive_decode(model, prompt, seed, settings=SETTINGS):
    """One row alone, the whole sequence through the whole model at every token, no cache and no padding."""
    uniforms = np.random.Generator(np.random.Philox(seed)).random(settings.max_new_tokens)
    ids, logprobs = [], []
    for uniform in uniforms:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, -1].double() / settings.temperature
        probabilities = logits.softmax(-1)
        token = int((probabilities.cumsum(0) <= uniform).sum())
        ids.append(token)
        logprobs.append(probabilities[token].log().item())
        if token == EOS:
            return ids, logprobs, "stop"
    return ids, logprobs, "length"


def assert_same(ours, other):
    for a, b in zip(ours, other, strict=True):
        assert a.token_ids == b.token_ids and a.finish_reason == b.finish_reason
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_padded_compacted_decoding_equals_one_row_at_a_time(model, sampler, prompts, temperature):
    """Left padding, the key-value cache and the removal of finished rows change nothing."""
    settings = SamplingSettings(temperature, 1.0, NEW_TOKENS, 256)
    seeds = seeds_of(prompts, 8)
    ours = sampler.generate(prompts, seeds, settings)
    pairs = [(prompt, seed) for prompt, own in zip(prompts, seeds, strict=True) for seed in own]
    assert len(ours) == len(pairs) == 40
    for rollout, (prompt, seed) in zip(ours, pairs, strict=True):
        ids, logprobs, reason = naive_decode(model, prompt, seed, settings)
        assert rollout.token_ids == ids and rollout.finish_reason == reason
        np.testing.assert_allclose(rollout.logprobs, logprobs, atol=1e-5)
    lengths = {len(rollout.token_ids) for rollout in ours if rollout.finish_reason == "stop"}
    assert len(lengths) > 5, "rows should finish at different steps"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_decodes_as_one_row_at_a_time(family, prompts):
    """Masks of sliding windows, a scaled output layer; packed or not, the sampler is the same."""
    model = family_model(family, 1)
    settings = SamplingSettings(0.8, 1.0, 10, 256)
    prompts = prompts[1:4]
    seeds = seeds_of(prompts, 3)
    pairs = [(prompt, seed) for prompt, own in zip(prompts, seeds, strict=True) for seed in own]
    expected = [naive_decode(model, prompt, seed, settings) for prompt, seed in pairs]
    for _ in range(2):
        ours = TransformersSampler(model, [EOS]).generate(prompts, seeds, settings)
        for rollout, (ids, logprobs, _) in zip(ours, expected, strict=True):
            assert rollout.token_ids == ids
            np.testing.assert_allclose(rollout.logprobs, logprobs, atol=1e-5)
        pack_rows(model)


def test_each_prompt_alone_gives_the_same(sampler, prompts):
    seeds = seeds_of(prompts, 4)
    together = sampler.generate(prompts, seeds, SETTINGS)
    alone = [r for p, s in zip(prompts, seeds, strict=True) for r in sampler.generate([p], [s], SETTINGS)]
    assert_same(together, alone)


@pytest.mark.parametrize("batch_rows", [1, 4, 7, 12])
def test_batch_rows_and_order_do_not_matter(sampler, prompts, batch_rows):
    seeds = seeds_of(prompts, 4)
    expected = sampler.generate(prompts, seeds, SETTINGS)
    split = SamplingSettings(1.0, 1.0, NEW_TOKENS, batch_rows)
    assert_same(sampler.generate(prompts, seeds, split), expected)
    order = random.Random(0).sample(range(len(prompts)), len(prompts))
    shuffled = sampler.generate([prompts[i] for i in order], [seeds[i][::-1] for i in order], split)
    groups = [expected[4 * i : 4 * i + 4][::-1] for i in order]
    assert_same(shuffled, list(itertools.chain(*groups)))


def test_prompts_may_have_different_numbers_of_samples(sampler, prompts):
    seeds = seeds_of(prompts, 4)
    expected = sampler.generate(prompts, seeds, SETTINGS)
    uneven = [own[: 1 + i % 3] for i, own in enumerate(seeds)]
    chosen = [expected[4 * i + j] for i, own in enumerate(uneven) for j in range(len(own))]
    assert_same(sampler.generate(prompts, uneven, SETTINGS), chosen)


def test_sampler_log_probs_equal_the_trainers(model, sampler, prompts):
    for temperature, top_p in ((1.0, 1.0), (0.7, 1.0), (1.0, 0.8)):
        settings = SamplingSettings(temperature, top_p, NEW_TOKENS, 256)
        rollouts = sampler.generate(prompts, seeds_of(prompts, 4), settings)
        contexts = [prompt for prompt in prompts for _ in range(4)]
        with torch.no_grad():
            trainer = response_logprobs(model, contexts, [r.token_ids for r in rollouts], temperature)
        ours = torch.tensor([x for r in rollouts for x in r.logprobs])
        assert (ours - trainer).abs().max() <= 1e-5  # of the untruncated distribution, also with top_p


def test_eos_is_last_exactly_when_the_answer_stopped(sampler, prompts):
    rollouts = sampler.generate(prompts, seeds_of(prompts, 16), SETTINGS)
    assert {rollout.finish_reason for rollout in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        assert EOS not in rollout.token_ids[:-1] and len(rollout.logprobs) == len(rollout.token_ids)
        assert (rollout.token_ids[-1] == EOS) == (rollout.finish_reason == "stop")
        assert rollout.finish_reason == "stop" or len(rollout.token_ids) == NEW_TOKENS


def test_eos_as_the_last_allowed_token_is_a_stop(sampler, prompts):
    seeds = seeds_of(prompts, 16)
    rollouts = sampler.generate(prompts, seeds, SETTINGS)
    place = next(i for i, r in enumerate(rollouts) if r.finish_reason == "stop" and len(r.token_ids) > 2)
    prompt, length = place // 16, len(rollouts[place].token_ids)
    for limit, reason in ((length, "stop"), (length - 1, "length")):
        own = SamplingSettings(1.0, 1.0, limit, 256)
        (cut,) = sampler.generate([prompts[prompt]], [[seeds[prompt][place % 16]]], own)
        assert (cut.token_ids, cut.finish_reason) == (rollouts[place].token_ids[:limit], reason)


def test_every_end_token_ends_an_answer(model, sampler, prompts):
    """The same answers as with one end token, cut at the first of the others."""
    other = next(i for i in range(10, VOCABULARY) if i != EOS)
    seeds = seeds_of(prompts, 16)
    cut = 0
    ours = TransformersSampler(model, [EOS, other]).generate(prompts, seeds, SETTINGS)
    for rollout, whole in zip(ours, sampler.generate(prompts, seeds, SETTINGS), strict=True):
        if other in whole.token_ids:
            length = whole.token_ids.index(other) + 1
            assert (rollout.token_ids, rollout.finish_reason) == (whole.token_ids[:length], "stop")
            cut += 1
        else:
            assert (rollout.token_ids, rollout.finish_reason) == (whole.token_ids, whole.finish_reason)
    assert cut > 5


def test_two_seeds_differ_and_equal_seeds_agree(sampler, prompts):
    first = sampler.generate(prompts, seeds_of(prompts, 4, run=1), SETTINGS)
    again = sampler.generate(prompts, seeds_of(prompts, 4, run=1), SETTINGS)
    second = sampler.generate(prompts, seeds_of(prompts, 4, run=2), SETTINGS)
    assert first == again
    assert sum(a.token_ids != b.token_ids for a, b in zip(first, second, strict=True)) > 15
    assert len({tuple(rollout.token_ids) for rollout in first}) > 15  # the samples of a prompt differ too


def test_every_part_of_a_sample_seed_counts():
    parts = [(11, "train", 3, "q7", 0), (12, "train", 3, "q7", 0), (11, "evaluation", 3, "q7", 0)]
    parts += [(11, "train", 4, "q7", 0), (11, "train", 3, "q8", 0), (11, "train", 3, "q7", 1)]
    parts += [("a", "bc"), ("ab", "c"), (1, 11), (11, 1)]  # no gluing of neighbours
    seeds = [sample_seed(*part) for part in parts]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**64 for seed in seeds)
    assert sample_seed(11, "train", 3, "q7", 0) == 5264791874307731203  # fixed: results depend on it


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, [0.5, 0.25, 0.125, 0.125, 0.0]),
        (0.5, 1.0, [16 / 22, 4 / 22, 1 / 22, 1 / 22, 0.0]),  # squared probabilities
        (1.0, 0.75, [2 / 3, 1 / 3, 0.0, 0.0, 0.0]),  # the mass before the third token is 0.75, not below it
        (1.0, 0.76, [4 / 7, 2 / 7, 1 / 7, 0.0, 0.0]),
        (1.0, 0.1, [1.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_drawn_tokens_follow_the_distribution(temperature, top_p, expected):
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125, 0.0]]).log() + 3.0
    draws = 40_000
    uniforms = torch.from_numpy(np.random.default_rng(0).random(draws))
    ids, logprobs = draw_tokens(logits.expand(draws, -1), uniforms, temperature, top_p)
    shares = torch.bincount(ids, minlength=5).double() / draws
    assert (shares - torch.tensor(expected)).abs().max() < 4 * (0.25 / draws) ** 0.5
    assert all(shares[i] == 0 for i, share in enumerate(expected) if share == 0)
    full = (logits[0] / temperature).log_softmax(-1)
    torch.testing.assert_close(logprobs, full[ids])


def test_draws_at_the_ends_of_the_unit_interval():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(3, -1)
    uniforms = torch.tensor([0.0, 0.5, np.nextafter(1.0, 0.0)], dtype=torch.double)
    assert draw_tokens(logits, uniforms, 1.0, 1.0)[0].tolist() == [1, 2, 2]  # never a token of probability 0


def test_empirical_first_tokens_match_the_models_probabilities(model, sampler, prompts):
    draws = 3000
    settings = SamplingSettings(1.0, 1.0, 1, 4096)
    rollouts = sampler.generate(prompts[:1], [[sample_seed(0, "first", i) for i in range(draws)]], settings)
    shares = torch.bincount(torch.tensor([r.token_ids[0] for r in rollouts]), minlength=VOCABULARY) / draws
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(prompts[:1])).logits[0, -1].softmax(-1)
    chi_square = (draws * (shares - expected).square() / expected).sum().item()
    assert chi_square < VOCABULARY - 1 + 4 * (2 * (VOCABULARY - 1)) ** 0.5


def test_sampled_ids_are_kept_and_never_encoded_again(sampler, prompts):
    """Decoding loses ids (special tokens, words that can be written otherwise): the rollout holds what was drawn."""
    rollouts = sampler.generate(prompts, seeds_of(prompts, 8), SETTINGS)
    texts = TOKENIZER.batch_decode([rollout.token_ids for rollout in rollouts], skip_special_tokens=True)
    encoded = [TOKENIZER.encode(text, add_special_tokens=False) for text in texts]
    assert any(ids != rollout.token_ids for ids, rollout in zip(encoded, rollouts, strict=True))
    assert all(isinstance(token, int) for rollout in rollouts for token in rollout.token_ids)


def test_sampling_leaves_the_models_mode_and_gradients_alone(model, sampler, prompts):
    for training in (True, False):
        model.train(training)
        sampler.generate(prompts[:1], [[1]], SETTINGS)
        assert model.training is training
    loss = response_logprobs(model, prompts[:1], [[5, 6]]).sum()
    loss.backward()  # no inference tensor is left in the model
    model.zero_grad()


def test_sync_weights_takes_the_new_model(prompts):
    sampler = TransformersSampler(tiny_model(0), [EOS])
    before = sampler.generate(prompts, seeds_of(prompts, 1), SETTINGS)
    sampler.sync_weights(tiny_model(5))
    expected = TransformersSampler(tiny_model(5), [EOS]).generate(prompts, seeds_of(prompts, 1), SETTINGS)
    assert sampler.generate(prompts, seeds_of(prompts, 1), SETTINGS) == expected != before


def test_refused_calls(sampler):
    with pytest.raises(ValueError, match="one list of seeds for each prompt"):
        sampler.generate([[5]], [], SETTINGS)
    with pytest.raises(ValueError, match="at least one token"):
        sampler.generate([[]], [[1]], SETTINGS)
    assert sampler.generate([], [], SETTINGS) == []


def test_vllm_that_is_not_installed_is_said_with_the_remedy(model, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="needs the package vllm, which .* does not have.*set `engine: transformers`"):
        build_sampler(EngineSettings("vllm", 1.0), model, tmp_path, [EOS], SETTINGS, 64)


def test_the_growing_cache_holds_what_concatenation_gives():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = GrowingLayer(), DynamicLayer()
    rows = 3
    for step in range(3 * GrowingLayer.ROOM_TOKENS + 2):
        new_tokens = 5 if step == 0 else 1
        states = torch.randn(2, rows, 2, new_tokens, 4, generator=generator)
        for one, other in zip(ours.update(*states), theirs.update(*states), strict=True):
            assert torch.equal(one, other)
        if step in (0, 4, 7):  # a prompt's rows for its samples, then rows that leave
            kept = torch.tensor([[0, 0, 1, 2, 2], [0, 2, 3], [1]][(0, 4, 7).index(step)])
            rows = len(kept)
            for layer in (ours, theirs):
                layer.batch_select_indices(kept)
            assert torch.equal(ours.keys, theirs.keys) and ours.get_seq_length() == theirs.get_seq_length()
