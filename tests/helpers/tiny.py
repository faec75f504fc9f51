"""A tiny Qwen3 and its relatives with the miniature's tokenizer, and naive references that tests compare with."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Qwen3ForCausalLM

from prerl.config.base_models import ModelShape
from prerl.config.key import select
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
SHAPE = select(ModelShape, ARCHITECTURE | {"model_type": "qwen3", "vocab_size": VOCABULARY})
"""`architecture` of the tiny Qwen3 as a model of the hub."""


def tiny_model(seed: int = 0) -> Qwen3ForCausalLM:
    """Random weights, float32, CPU."""
    return build_model(ARCHITECTURE, TOKENIZER, seed)


# windows are shorter than the tests' rows, and every number that a family has of its own is another than its default
FAMILIES: dict[str, dict] = {
    "gemma": {},
    "gemma3_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 5,
        "query_pre_attn_scalar": 20,
    },
    "granite": {
        "attention_multiplier": 0.5,
        "embedding_multiplier": 1.5,
        "residual_multiplier": 0.7,
        "logits_scaling": 0.6,
    },
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 6, "tie_word_embeddings": False},
    "olmo2": {},
    "phi": {"partial_rotary_factor": 0.5, "tie_word_embeddings": False, "resid_pdrop": 0.0},
    "phi3": {"sliding_window": 9, "original_max_position_embeddings": 256},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {"attention_bias": True},
    "smollm3": {"no_rope_layer_interval": 2},
}
"""model_type of transformers -> keys of its configuration that differ from ARCHITECTURE's and its own defaults."""


def family_model(name: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A model of one of FAMILIES, random weights, biases and norms too, float32, CPU."""
    ids = {"vocab_size": VOCABULARY, "bos_token_id": PREFIX, "eos_token_id": EOS, "pad_token_id": 0}
    config = AutoConfig.for_model(name, **(ARCHITECTURE | ids | FAMILIES[name] | changes))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape) / 4)
    return model


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
