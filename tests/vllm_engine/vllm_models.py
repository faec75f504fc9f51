"""Tiny models that vLLM's CPU kernels can run, and how far the engine is from the trainer."""

import torch

from prerl.config.rollouts import EngineSettings, SamplingSettings
from prerl.data.miniature import build_model
from prerl.models.logprobs import response_logprobs
from prerl.rollouts.interface import sample_seed
from tiny import ARCHITECTURE, EOS, TOKENIZER, family_model

NEW_TOKENS, CONTEXT, SAMPLES = 24, 256, 8


ENGINE = EngineSettings("vllm", 0.1)


SETTINGS = SamplingSettings(temperature=1.0, top_p=1.0, max_new_tokens=NEW_TOKENS, batch_rows=64)


# vLLM's CPU kernels know no heads of 8; grouped queries as Qwen3 has them
SHAPE = ARCHITECTURE | {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}


FAMILIES = {"llama": False, "mistral": False, "phi3": False, "gemma": True, "gemma3_text": True, "granite": True}
FAMILIES |= {"qwen2": True}
"""Family -> whether embeddings are tied, as its published models have it; all with `vllm` in prerl.config.shapes."""


def make_model(tied=True, seed=1, family=None):
    """Ends an answer within a few tokens or not at all, as in test_samplers. family: another one than Qwen3."""
    if family is None:
        model = build_model(SHAPE | {"tie_word_embeddings": tied}, TOKENIZER, seed)
    else:
        windows = {"use_sliding_window": False} if family == "qwen2" else {}  # vLLM: in all of its layers or in none
        model = family_model(family, seed, **SHAPE | {"tie_word_embeddings": tied} | windows)
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 1.2
    return model


def seeds_of(prompts, samples=SAMPLES, run=0):
    return [[sample_seed(run, "test", prompt, sample) for sample in range(samples)] for prompt in range(len(prompts))]


def gaps(model, sampler, prompts, settings=SETTINGS):
    """|sampler - trainer| of every token, nats."""
    rollouts = sampler.generate(prompts, seeds_of(prompts), settings)
    contexts = [prompt for prompt in prompts for _ in range(SAMPLES)]
    with torch.no_grad():
        trainer = response_logprobs(model, contexts, [r.token_ids for r in rollouts], settings.temperature)
    return (trainer - torch.tensor([x for r in rollouts for x in r.logprobs])).abs()
