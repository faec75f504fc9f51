"""What follows from a decoder's shape alone: parameters, bytes of its keys and values, FLOPs. Pure Python, no torch.

A multiply-add is two FLOPs. Only matrix products and attention are counted; norms, activations and the softmax are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from prerl.config.base_models import ModelShape
from prerl.config.errors import ConfigError
from prerl.config.key import select
from prerl.core.errors import UserError

MINIATURE_VOCABULARY = 31  # with `search` one more
"""Tokens of prerl.data.miniature.build_tokenizer(), which cannot be built without heavy imports."""


@dataclass(frozen=True)
class Family:
    """How a decoder of transformers differs from Llama's, as far as parameters, FLOPs and memory go.

    norms: of a layer, over the hidden states. norm_numbers: parameters of a norm for each unit (2: LayerNorm, with a
    bias). float32_norms: their weights multiply float32 numbers, whatever the precision. query_key_norms: over each
    `head`, over all heads together (`width`), or none (""). biases: those that are always there, of `qkv`, `output`,
    `mlp` and `head`. gated: the MLP has three matrices, otherwise two. kept_heads, kept_mlp: numbers that the backward
    pass needs, for each unit of the heads' width (without norms) and of the MLP's. tied: what a config.json means that
    leaves tie_word_embeddings out. windows: which layers of a model with a sliding window slide if layer_types does not
    say: `all`, all but every `sixth`, or none (""). vllm: it has a class of its own in vLLM (otherwise vLLM changes
    transformers' class, also the trainer's).
    """

    norms: int = 2
    norm_numbers: int = 1
    float32_norms: bool = False
    query_key_norms: str = ""
    biases: tuple[str, ...] = ()
    gated: bool = True
    kept_heads: int = 2
    kept_mlp: int = 4
    tied: bool = False
    windows: str = ""
    vllm: bool = True


FAMILIES = {
    "gemma": Family(float32_norms=True, tied=True),
    "gemma3_text": Family(norms=4, float32_norms=True, query_key_norms="head", tied=True, windows="sixth"),
    "granite": Family(),
    "llama": Family(),
    "mistral": Family(windows="all"),
    "olmo2": Family(float32_norms=True, query_key_norms="width", vllm=False),
    "phi": Family(
        norms=1,
        norm_numbers=2,
        biases=("qkv", "output", "mlp", "head"),
        gated=False,
        kept_heads=3,
        kept_mlp=5,
        vllm=False,
    ),
    "phi3": Family(kept_heads=4, windows="all"),
    "qwen2": Family(biases=("qkv",)),
    "qwen3": Family(query_key_norms="head"),
    "smollm3": Family(tied=True, vllm=False),
}
"""model_type of transformers -> what is known of it. tests/unit compares each with transformers: parameters, FLOPs,
log-probs of both spaces, an update, samples. Another one is a line here and one in tests/helpers/tiny.py.
"""


@dataclass(frozen=True)
class Shape:
    """What decides size and work, under the names of transformers' configurations.

    sliding_layers: those in which a token sees only the last `sliding_window` tokens, itself included.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    model_type: str = "qwen3"
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    sliding_layers: int = 0

    @property
    def family(self) -> Family:
        """What is known of its model_type."""
        return FAMILIES[self.model_type]

    @property
    def attention_width(self) -> int:
        """Width of the queries of all heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Width of the keys of all key-value heads, and of the values."""
        return self.num_key_value_heads * self.head_dim

    @property
    def mlp_inputs(self) -> int:
        """Matrices of the MLP that take hidden states: gate and up, or one."""
        return 2 if self.family.gated else 1

    @property
    def layer_products(self) -> int:
        """Weights of one layer's matrices: queries and output, keys and values, the MLP."""
        attention = 2 * self.attention_width + 2 * self.key_value_width
        return self.hidden_size * (attention + (self.mlp_inputs + 1) * self.intermediate_size)

    @property
    def norm_parameters(self) -> int:
        """Parameters of a norm over the hidden states."""
        return self.family.norm_numbers * self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: matrices, norms, biases."""
        queries_and_keys = {
            "": 0,
            "head": 2 * self.head_dim,
            "width": self.attention_width + self.key_value_width,
        }[self.family.query_key_norms]
        biases = {
            "qkv": (self.attention_bias, self.attention_width + 2 * self.key_value_width),
            "output": (self.attention_bias, self.hidden_size),
            "mlp": (self.mlp_bias, self.mlp_inputs * self.intermediate_size + self.hidden_size),
        }
        extra = sum(size for name, (asked, size) in biases.items() if asked or name in self.family.biases)
        return self.layer_products + self.family.norms * self.norm_parameters + queries_and_keys + extra

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding and, unless tied, of the output layer, with its bias."""
        matrices = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return matrices + (self.vocab_size if "head" in self.family.biases else 0)

    @property
    def transformer_parameters(self) -> int:
        """Parameters of the layers and the norm behind them."""
        return self.num_hidden_layers * self.layer_parameters + self.norm_parameters

    @property
    def parameters(self) -> int:
        """All parameters; a tied embedding counts once. Qwen3-4B: 4,022,468,096."""
        return self.transformer_parameters + self.embedding_parameters

    @property
    def critic_parameters(self) -> int:
        """PPO's critic: layers, norm and embedding of the model, and a linear head with bias to one value."""
        return self.transformer_parameters + self.vocab_size * self.hidden_size + self.hidden_size + 1

    def key_value_bytes(self, bytes_per_number: int = 2) -> int:
        """Bytes of one token's keys and values in all layers. Qwen3-4B in bfloat16: 147,456.

        Sliding layers count in full: an upper bound, which the embedded sampler needs.
        """
        return 2 * self.num_hidden_layers * self.key_value_width * bytes_per_number

    def forward_flops(self, tokens: float, length: float, predicted: float) -> float:
        """FLOPs of a forward pass over `tokens` tokens of rows of mean length `length`, logits at `predicted` of them.

        Causal: a token attends to half of its row on average, 2 x 2 FLOPs for each of them and each unit of width; in a
        sliding layer to at most its window, on average w - w² / (2 x length).
        """
        near = 0.0
        if self.sliding_layers and length:  # without such layers `length` may be a table
            window = min(self.sliding_window or length, length)
            near = window - window**2 / (2 * length)
        seen = (self.num_hidden_layers - self.sliding_layers) * length / 2 + self.sliding_layers * near
        layers = 2 * self.num_hidden_layers * self.layer_products + 4 * self.attention_width * seen
        return tokens * layers + predicted * 2 * self.hidden_size * self.vocab_size

    def training_flops(self, tokens: float, length: float, predicted: float) -> float:
        """FLOPs of forward and backward, which costs twice the forward; recomputation is not counted."""
        return 3 * self.forward_flops(tokens, length, predicted)


def unsupported(model_type: str | None) -> str:
    """What an error says of a model_type that is not in FAMILIES."""
    return (
        f"model_type {model_type!r} is not supported, only decoders with rotary positions that are tested here: "
        f"{', '.join(FAMILIES)} (no mixtures of experts, soft-capped attention, state spaces or images); name another "
        "model, or add it as docs/extending.md says"
    )


def read_shape(config: Mapping) -> Shape:
    """The shape that a config.json has, or `architecture` of config.yaml.

    Such files leave out, in some families, num_key_value_heads, head_dim, tie_word_embeddings, biases and windows.
    Raises UserError if its model_type is not supported.
    """
    if config.get("model_type") not in FAMILIES:
        raise UserError(unsupported(config.get("model_type")))
    family, heads, layers = FAMILIES[config["model_type"]], config["num_attention_heads"], config["num_hidden_layers"]
    window = config.get("sliding_window")
    sliding = {"": 0, "all": layers, "sixth": layers - layers // 6}[family.windows]
    if config.get("layer_types"):
        sliding = list(config["layer_types"]).count("sliding_attention")
    return Shape(
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab_size=config["vocab_size"],
        tie_word_embeddings=config.get("tie_word_embeddings", family.tied),
        model_type=config["model_type"],
        attention_bias=bool(config.get("attention_bias")),
        mlp_bias=bool(config.get("mlp_bias")),
        sliding_window=window if sliding and window else None,
        sliding_layers=sliding if window else 0,
    )


def with_architecture(name: str, model: Mapping) -> dict:
    """A model's block; `architecture` of a folder is, unless given, what its config.json says. Raises ConfigError."""
    if "folder" not in model or "architecture" in model:
        return dict(model)
    file = Path(model["folder"]) / "config.json"
    if not file.is_file():
        raise ConfigError(
            f"models.{name}.folder: {model['folder']} has no config.json; name a transformers folder, relative to "
            f"{Path.cwd()}"
        )
    return {**model, "architecture": select(ModelShape, json.loads(file.read_bytes()))}


def shape_of(model: Mapping) -> Shape:
    """The shape of a model's block in config.yaml, its `architecture` or that of a `generated` one."""
    if "generated" in model:
        generated = {"model_type": "qwen3", "vocab_size": MINIATURE_VOCABULARY + ("search" in model["generated"])}
        return read_shape(model["generated"]["architecture"] | generated)
    return read_shape(model["architecture"])


def check_architecture(name: str, architecture: Mapping, config: Mapping) -> None:
    """Raises UserError if a model's config.json (`config`) does not have the `architecture` given in config.yaml."""
    found, given = asdict(read_shape(config)), asdict(read_shape(architecture))
    for key in ("model_type", *given):
        if found[key] != given[key]:
            if key == "sliding_layers":
                said = f"layer_types: {given[key]} layers slide, by its config.json {found[key]}; copy them from it"
            else:
                said = f"{key}: {given[key]}, but its config.json has {found[key]}; write that"
            raise UserError(f"models.{name}.architecture.{said}")
