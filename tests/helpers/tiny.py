"""A tiny Qwen3 with the miniature's tokenizer and naive references that several tests compare with."""

from __future__ import annotations

import torch
from transformers import Qwen3ForCausalLM

from prerl.data.miniature import build_model, build_tokenizer

ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.15,  # far from uniform, so that a wrong input changes log-probs visibly
}
TOKENIZER = build_tokenizer()
EOS = TOKENIZER.eos_token_id
PREFIX = TOKENIZER.convert_tokens_to_ids("<|im_start|>")
VOCABULARY = len(TOKENIZER)


def tiny_model(seed: int = 0) -> Qwen3ForCausalLM:
    """Random weights, float32, CPU."""
    return build_model(ARCHITECTURE, TOKENIZER, seed)


def random_ids(generator: torch.Generator, length: int) -> list[int]:
    """Ids of ordinary words (no special token)."""
    return torch.randint(10, VOCABULARY, (length,), generator=generator).tolist()


def naive_logprobs(
    model: torch.nn.Module, context: list[int], response: list[int], temperature: float = 1.0
) -> torch.Tensor:
    """Log-probs [tokens] of one row from the full logits of the whole model, nothing padded, chunked or shared."""
    logits_TV = model(input_ids=torch.tensor([context + response])).logits[0].float() / temperature
    logprobs_TV = torch.log_softmax(logits_TV, dim=-1)
    first = len(context) - 1
    return torch.stack([logprobs_TV[first + i, token] for i, token in enumerate(response)])


def flat_gradient(loss: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Gradient of a scalar over all parameters in one vector."""
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(model.parameters()))])
