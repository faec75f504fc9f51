"""The vLLM engine, in .venv-vllm: log-probs equal to the trainer's before and after each sync, seeds, ends, sleep."""

import itertools

import pytest
import torch
from safetensors.torch import save_file
from vllm_models import CONTEXT, ENGINE, FAMILIES, NEW_TOKENS, SAMPLES, SETTINGS, gaps, make_model, seeds_of

from prerl.config.rollouts import SamplingSettings
from prerl.data.miniature import save_model
from prerl.rollouts.engines import build_sampler
from prerl.rollouts.interface import sample_seed
from tiny import EOS, TOKENIZER, VOCABULARY, random_ids

SAMPLERS = []  # an engine that is deleted takes vLLM's process groups from the others


def make_sampler(model, folder, settings=SETTINGS, end_ids=(EOS,)):
    save_model(model, TOKENIZER, folder)
    SAMPLERS.append(build_sampler(ENGINE, model, folder, list(end_ids), settings, CONTEXT))
    return SAMPLERS[-1]


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def sampler(model, tmp_path_factory):
    return make_sampler(model, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(2)
    return [random_ids(generator, length) for length in (140, 17, 3, 40)]


@pytest.mark.parametrize(("family", "tied"), [(None, True), (None, False), *FAMILIES.items()])
def test_log_probs_equal_the_trainers_before_and_after_each_of_three_syncs(family, tied, prompts, tmp_path):
    model = make_model(tied, family=family)
    sampler = make_sampler(model, tmp_path)
    assert gaps(model, sampler, prompts).max() <= 1e-4
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        assert gaps(model, sampler, prompts).mean() > 0.1  # a stale engine is far off
        sampler.sync_weights(model)
        assert gaps(model, sampler, prompts).max() <= 1e-4


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.0, 0.8)])
def test_log_probs_are_those_of_the_scaled_untruncated_distribution(model, prompts, tmp_path, temperature, top_p):
    settings = SamplingSettings(temperature, top_p, NEW_TOKENS, 64)
    assert gaps(model, make_sampler(model, tmp_path, settings), prompts, settings).max() <= 1e-4


def test_a_checkpoint_folder_can_be_sampled_without_a_trainer_and_exchanged(model, prompts, tmp_path):
    """The evaluation's way: weights from files, then those of another checkpoint."""
    other = make_model(seed=7)
    for name, own, size in (("first", model, "1GB"), ("second", other, "20KB")):  # one file, or several with an index
        own.save_pretrained(tmp_path / name, max_shard_size=size)
        save_file({"model.norm.weight|exp_avg": torch.ones(64)}, tmp_path / name / "optimizer.safetensors")
    assert len(list((tmp_path / "second").glob("model-*.safetensors"))) > 2
    sampler = build_sampler(ENGINE, None, tmp_path / "first", [EOS], SETTINGS, CONTEXT)
    SAMPLERS.append(sampler)
    assert gaps(model, sampler, prompts).max() <= 1e-4
    sampler.load(tmp_path / "second")
    assert gaps(other, sampler, prompts).max() <= 1e-4 < gaps(model, sampler, prompts).mean()


def test_equal_seeds_give_equal_samples_alone_and_in_another_order(sampler, prompts):
    """On a CPU in float32; vLLM promises it only up to rounding."""
    seeds = seeds_of(prompts)
    together = sampler.generate(prompts, seeds, SETTINGS)
    ids = [rollout.token_ids for rollout in together]
    alone = [sampler.generate([p], [s], SETTINGS) for p, s in zip(prompts, seeds, strict=True)]
    assert [rollout.token_ids for rollout in itertools.chain(*alone)] == ids
    turned = sampler.generate(prompts[::-1], [own[::-1] for own in seeds[::-1]], SETTINGS)
    assert [rollout.token_ids for rollout in turned[::-1]] == ids
    others = sampler.generate(prompts, seeds_of(prompts, run=1), SETTINGS)
    assert sum(a.token_ids != b.token_ids for a, b in zip(together, others, strict=True)) > 28
    assert len({tuple(own) for own in ids}) > 28  # the samples of a prompt differ too


def test_prompts_that_one_step_does_not_hold(model, sampler):
    """40 x 140 tokens; a step of the engine takes 4,096."""
    generator = torch.Generator().manual_seed(4)
    prompts = [random_ids(generator, 140) for _ in range(40)]
    assert gaps(model, sampler, prompts).max() <= 1e-4


def test_first_tokens_follow_the_models_probabilities(model, sampler, prompts):
    """No temperature, top_k or penalty of a default comes in between."""
    draws = 3000
    settings = SamplingSettings(1.0, 1.0, 1, 64)
    rollouts = sampler.generate(prompts[1:2], [[sample_seed(0, "first", i) for i in range(draws)]], settings)
    shares = torch.bincount(torch.tensor([r.token_ids[0] for r in rollouts]), minlength=VOCABULARY) / draws
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(prompts[1:2])).logits[0, -1].softmax(-1)
    chi_square = (draws * (shares - expected).square() / expected).sum().item()
    assert chi_square < VOCABULARY - 1 + 4 * (2 * (VOCABULARY - 1)) ** 0.5


def test_the_end_token_is_last_exactly_when_the_answer_stopped(model, sampler, prompts, tmp_path):
    seeds = seeds_of(prompts)
    whole = sampler.generate(prompts, seeds, SETTINGS)
    assert {rollout.finish_reason for rollout in whole} == {"stop", "length"}
    for rollout in whole:
        assert EOS not in rollout.token_ids[:-1] and len(rollout.logprobs) == len(rollout.token_ids)
        assert (rollout.token_ids[-1] == EOS) == (rollout.finish_reason == "stop")
        assert rollout.finish_reason == "stop" or len(rollout.token_ids) == NEW_TOKENS
    other = next(rollout.token_ids[2] for rollout in whole if len(rollout.token_ids) > 3)
    two = make_sampler(model, tmp_path, end_ids=(EOS, other)).generate(prompts, seeds, SETTINGS)
    assert any(rollout.token_ids[-1] == other for rollout in two)
    for rollout, full in zip(two, whole, strict=True):
        length = full.token_ids.index(other) + 1 if other in full.token_ids else len(full.token_ids)
        assert rollout.token_ids == full.token_ids[:length]
        assert rollout.finish_reason == ("stop" if other in full.token_ids else full.finish_reason)


def test_the_samples_of_a_prompt_share_its_prefix_until_the_weights_change(model, sampler, prompts, monkeypatch):
    cached = []
    generate = sampler.engine.generate

    def spy(*arguments, **options):
        outputs = generate(*arguments, **options)
        cached.append([output.num_cached_tokens for output in outputs])
        return outputs

    monkeypatch.setattr(sampler.engine, "generate", spy)
    for _ in range(2):
        sampler.generate(prompts[:1], seeds_of(prompts[:1]), SETTINGS)
        sampler.sync_weights(model)
    assert cached == [[0] + [128] * (SAMPLES - 1)] * 2  # of 140 tokens, in blocks of 128 (on a GPU 16)


def test_the_engine_sleeps_but_for_rollouts(model, sampler, prompts):
    executor = sampler.engine.llm_engine.model_executor
    sampler.generate(prompts, seeds_of(prompts), SETTINGS)
    assert executor.sleeping_tags == {"weights", "kv_cache"}
    sampler.sync_weights(model)
    assert executor.sleeping_tags == {"kv_cache"}
    sampler.sync_weights(model)  # a second one without rollouts in between
    sampler.generate(prompts, seeds_of(prompts), SETTINGS)
    assert executor.sleeping_tags == {"weights", "kv_cache"}


def test_refused_calls(sampler):
    with pytest.raises(ValueError, match="one list of seeds for each prompt"):
        sampler.generate([[5]], [], SETTINGS)
    for temperature, top_p in ((0.7, 1.0), (0.7, 0.8)):
        with pytest.raises(ValueError, match="one of temperature and top_p must be 1"):
            sampler.generate([[5]], [[1]], SamplingSettings(temperature, top_p, 4, 64))
    assert sampler.generate([], [], SETTINGS) == []
