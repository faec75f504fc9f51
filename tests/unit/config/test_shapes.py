"""Parameters against transformers' own, exactly; FLOPs and bytes by hand; a wrong shape is refused."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Qwen3Config, Qwen3ForCausalLM

from prerl.config.scales import read_config, read_files
from prerl.config.shapes import (
    FAMILIES,
    MINIATURE_VOCABULARY,
    Shape,
    check_architecture,
    read_shape,
    shape_of,
    with_architecture,
)
from prerl.core.errors import UserError
from tiny import FAMILIES as TINY
from tiny import TOKENIZER, family_model

ROOT = Path(__file__).parents[3]
CONFIG = read_files()
MODELS = {
    name: model
    for scale in ("miniature", "pilot", "paper")
    for name, model in read_config(CONFIG | {"scale": scale})["models"].items()
}
SMALL = Shape(8, 12, 2, 4, 2, 3, 10, True)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_transformers_own(name):
    shape = shape_of(MODELS[name])
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**asdict(shape)))
    assert model.num_parameters() == shape.parameters
    assert sum(p.numel() for p in model.get_decoder().parameters()) + shape.hidden_size + 1 == shape.critic_parameters


def test_the_models_have_the_sizes_of_their_names():
    sizes = {name: round(shape_of(model).parameters / 1e9, 2) for name, model in MODELS.items() if "hub" in model}
    assert sizes == {"qwen3-0.6b": 0.60, "qwen3-1.7b": 1.72, "qwen3-4b": 4.02, "qwen3-8b": 8.19}


def test_the_miniatures_vocabulary_is_its_tokenizers():
    assert len(TOKENIZER) == MINIATURE_VOCABULARY


def test_flops_by_hand():
    # a layer has 8 x (2 x 12 + 2 x 6 + 3 x 12) weights in its matrices; a token meets 6 / 2 others on average
    assert SMALL.layer_products == 576
    assert SMALL.forward_flops(tokens=5, length=6, predicted=3) == 5 * 2 * (2 * 576 + 4 * 12 * 3) + 3 * 2 * 80
    assert SMALL.training_flops(5, 6, 3) == 3 * SMALL.forward_flops(5, 6, 3)


def test_keys_and_values_by_hand():
    assert SMALL.key_value_bytes() == 2 * 2 * 6 * 2  # keys and values, layers, width, bytes
    assert shape_of(MODELS["qwen3-4b"]).key_value_bytes() == 147_456


def test_flops_and_bytes_of_sliding_layers_by_hand():
    # one of two layers sees 4 tokens at most, in a row of 6 on average 4 - 16 / 12 = 8 / 3
    sliding = replace(SMALL, sliding_window=4, sliding_layers=1)
    assert sliding.forward_flops(6, 6, 0) == pytest.approx(6 * (2 * 2 * 576 + 4 * 12 * (3 + 8 / 3)))
    assert sliding.forward_flops(5, 3, 1) == SMALL.forward_flops(5, 3, 1)  # shorter than the window
    assert sliding.key_value_bytes() == SMALL.key_value_bytes()  # an upper bound


def test_every_family_is_tested():
    assert set(TINY) == set(FAMILIES)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("family", TINY)
def test_the_shape_of_each_family_is_transformers_own(family, biased, tied):
    """Parameters exactly; FLOPs by torch's count, which knows no window and counts what the causal mask hides."""
    from torch.utils.flop_counter import FlopCounterMode

    biases = {"attention_bias", "mlp_bias"} & set(vars(AutoConfig.for_model(family)))
    changes = dict.fromkeys(biases, biased) | {"tie_word_embeddings": tied}
    model = family_model(family, attn_implementation="eager", **changes)
    shape = read_shape(model.config.to_dict())
    assert model.num_parameters() == shape.parameters
    assert sum(p.numel() for p in model.get_decoder().parameters()) + shape.hidden_size + 1 == shape.critic_parameters
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 32, dtype=torch.long), use_cache=False)
    full = replace(shape, sliding_layers=0)
    assert counter.get_total_flops() == full.forward_flops(tokens=32, length=64, predicted=32)


@pytest.mark.parametrize("family", TINY)
def test_what_a_config_file_may_leave_out(family):
    heads = {"hidden_size": 64, "num_attention_heads": 4}
    sizes = dict.fromkeys(("intermediate_size", "num_hidden_layers", "vocab_size"), 12) | heads
    shape = read_shape(sizes | {"model_type": family})
    assert shape.tie_word_embeddings == AutoConfig.for_model(family).tie_word_embeddings
    assert (shape.num_key_value_heads, shape.head_dim, shape.attention_bias, shape.sliding_layers) == (4, 16, False, 0)


def test_layers_that_slide():
    def layers(family, **keys):
        config = AutoConfig.for_model(family, num_hidden_layers=13, **keys).to_dict()
        without = {key: value for key, value in config.items() if key != "layer_types"}
        return {read_shape(config).sliding_layers, read_shape(without).sliding_layers}

    assert layers("gemma3_text") == {11}  # all but the 6th and the 12th
    assert layers("mistral", sliding_window=8) == layers("phi3", sliding_window=8) == {13}
    assert layers("mistral", sliding_window=None) == layers("qwen3", sliding_window=8) == {0}
    qwen = AutoConfig.for_model("qwen2", num_hidden_layers=13, use_sliding_window=True, max_window_layers=9)
    assert read_shape(qwen.to_dict()).sliding_layers == 4


@pytest.mark.parametrize("family", TINY)
def test_a_folder_says_itself_what_shape_it_has(family, tmp_path):
    config = family_model(family).config
    config.save_pretrained(tmp_path)
    model = {"folder": str(tmp_path)}
    assert shape_of(with_architecture("own", model)) == read_shape(config.to_dict())
    assert with_architecture("own", model | {"architecture": {}}) == model | {"architecture": {}}


def test_another_shape_than_the_models_is_refused():
    config = asdict(SMALL)
    check_architecture("mine", config, config)
    with pytest.raises(UserError, match="architecture.head_dim: 3, but its config.json has 4; write that"):
        check_architecture("mine", config, config | {"head_dim": 4})
    with pytest.raises(UserError, match="models.mine.architecture.model_type: qwen3, but its config.json has llama"):
        check_architecture("mine", config, config | {"model_type": "llama"})
    with pytest.raises(UserError, match="model_type 'mixtral' is not supported, only decoders with rotary positions"):
        check_architecture("mine", config, config | {"model_type": "mixtral"})
    gemma = config | {"model_type": "gemma3_text", "sliding_window": 4}
    types = {"layer_types": ["full_attention", "sliding_attention"]}
    with pytest.raises(UserError, match="layer_types: 2 layers slide, by its config.json 1; copy them from it"):
        check_architecture("mine", gemma, gemma | types)
    check_architecture("mine", gemma | types, gemma | types)
