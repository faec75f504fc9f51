"""What follows from a Qwen3's shape alone: parameters, bytes of its keys and values, FLOPs. Pure Python, no torch.

A multiply-add is two FLOPs. Only matrix products and attention are counted; norms, activations and the softmax are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from prerl.core.errors import UserError

MINIATURE_VOCABULARY = 31
"""Tokens of prerl.data.miniature.build_tokenizer(), which cannot be built without heavy imports."""


@dataclass(frozen=True)
class Shape:
    """Keys of transformers' Qwen3Config that decide size and work."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool

    @property
    def attention_width(self) -> int:
        """Width of the queries of all heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Width of the keys of all key-value heads, and of the values."""
        return self.num_key_value_heads * self.head_dim

    @property
    def layer_products(self) -> int:
        """Weights of one layer's matrices: queries and output, keys and values, the three of the MLP."""
        attention = 2 * self.attention_width + 2 * self.key_value_width
        return self.hidden_size * (attention + 3 * self.intermediate_size)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer, its norms (hidden twice, queries, keys) included."""
        return self.layer_products + 2 * self.hidden_size + 2 * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding and, unless tied, of the output layer."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @property
    def parameters(self) -> int:
        """All parameters; a tied embedding counts once. Qwen3-4B: 4,022,468,096."""
        return self.num_hidden_layers * self.layer_parameters + self.hidden_size + self.embedding_parameters

    @property
    def critic_parameters(self) -> int:
        """PPO's critic: layers, norm and embedding of the model, and a linear head with bias to one value."""
        layers = self.num_hidden_layers * self.layer_parameters + self.hidden_size
        return layers + self.vocab_size * self.hidden_size + self.hidden_size + 1

    def key_value_bytes(self, bytes_per_number: int = 2) -> int:
        """Bytes of one token's keys and values in all layers. Qwen3-4B in bfloat16: 147,456."""
        return 2 * self.num_hidden_layers * self.key_value_width * bytes_per_number

    def forward_flops(self, tokens: float, length: float, predicted: float) -> float:
        """FLOPs of a forward pass over `tokens` tokens of rows of mean length `length`, logits at `predicted` of them.

        Causal: a token attends to half of its row on average, 2 x 2 FLOPs for each of them and each unit of width.
        """
        layer = 2 * self.layer_products + 4 * self.attention_width * length / 2
        return tokens * self.num_hidden_layers * layer + predicted * 2 * self.hidden_size * self.vocab_size

    def training_flops(self, tokens: float, length: float, predicted: float) -> float:
        """FLOPs of forward and backward, which costs twice the forward; recomputation is not counted."""
        return 3 * self.forward_flops(tokens, length, predicted)


def shape_of(model: Mapping) -> Shape:
    """The shape of a model's block in config.yaml, `generated` or `hub`."""
    if "generated" in model:
        values = model["generated"]["architecture"] | {"vocab_size": MINIATURE_VOCABULARY}
        return Shape(**{key: values[key] for key in Shape.__annotations__})
    return Shape(**model["architecture"])


def check_architecture(name: str, shape: Shape, config: Mapping) -> None:
    """Raises UserError if a model's config.json (`config`) does not have the shape given in config.yaml."""
    if config["model_type"] not in ("qwen3", "llama"):
        raise UserError(
            f"models.{name}: its config.json has model_type {config['model_type']!r}; give a Qwen3 or Llama"
        )
    for key, value in asdict(shape).items():
        if config[key] != value:
            raise UserError(
                f"models.{name}.architecture.{key}: {value}, but its config.json has {config[key]}; write that number"
            )
