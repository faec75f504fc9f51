"""Parameters against transformers' own, exactly; FLOPs and bytes by hand; a wrong shape is refused."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from prerl.config.scales import read_config, read_files
from prerl.config.shapes import MINIATURE_VOCABULARY, Shape, check_architecture, shape_of
from prerl.core.errors import UserError
from tiny import ARCHITECTURE, TOKENIZER

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


def test_flops_of_the_products_are_torchs_own_count():
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape(**{key: (ARCHITECTURE | {"vocab_size": 64})[key] for key in Shape.__annotations__})
    config = Qwen3Config(**asdict(shape), max_position_embeddings=256, attn_implementation="eager")
    model = Qwen3ForCausalLM(config)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, 32, dtype=torch.long), use_cache=False)
    # torch counts the masked half of the attention as well: as rows of twice the length here
    assert counter.get_total_flops() == shape.forward_flops(tokens=32, length=64, predicted=32)


def test_another_shape_than_the_models_is_refused():
    config = asdict(SMALL) | {"model_type": "qwen3"}
    check_architecture("mine", SMALL, config)
    with pytest.raises(UserError, match="architecture.head_dim: 3, but its config.json has 4; write that"):
        check_architecture("mine", SMALL, config | {"head_dim": 4})
    with pytest.raises(UserError, match="models.mine: its config.json has model_type 'gpt2'; give a Qwen3"):
        check_architecture("mine", SMALL, config | {"model_type": "gpt2"})
