"""What is checked of a base model: chat templates of each kind, and each way in which a model does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prerl.config.prompt import PromptSettings
from prerl.core.errors import UserError
from prerl.data.miniature import CHAT_TEMPLATE
from prerl.models.base_model import check_base_model
from prerl.models.prompts import end_token_ids
from tiny import FAMILIES, TOKENIZER, VOCABULARY, family_model, tiny_model

PROMPT = PromptSettings(system="1+1", enable_thinking=False, prefix_token="<|im_start|>", max_prompt_tokens=64)
THINKING = replace(PROMPT, enable_thinking=True)

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
OPENED = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# an answered turn of Qwen3 has an empty think block, which a prompt with thinking leaves to the model
QWEN3 = CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
)
# the prompt opens a think block that an answered turn does not show, as DeepSeek-R1's distillations
ALWAYS_THINKING = TURNS + OPENED.replace("assistant\n", "assistant\n<think>\n")
# the user's turn is closed by what opens the answer, as Mistral's; nothing is added for an open turn
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}<|im_end|>"
    "{% else %}[INST]{{ m['content'] }}[/INST]{% endif %}{% endfor %}"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny_model().save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    return tmp_path


def edit(folder: Path, name: str, **changes) -> None:
    """Keys of a JSON file; None removes one."""
    file = folder / name
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


@pytest.mark.parametrize("prompt", [PROMPT, THINKING, replace(PROMPT, system=None)])
@pytest.mark.parametrize("template", [CHAT_TEMPLATE, QWEN3])
def test_both_modes_of_qwen3(folder, template, prompt):
    (folder / "chat_template.jinja").write_text(template)
    assert check_base_model(folder, prompt, 90).eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("template", "prompt"), [(TURNS + OPENED, PROMPT), (ALWAYS_THINKING, THINKING), (BRACKETS, PROMPT)]
)
def test_templates_of_other_families(folder, template, prompt):
    (folder / "chat_template.jinja").write_text(template)
    check_base_model(folder, prompt, 90)


@pytest.mark.parametrize(
    ("template", "prompt", "said"),
    [
        (TURNS, PROMPT, r"ends a prompt in '.*im_end\|>\\n', an answer comes after '.*assistant\\n', so it does"),
        (TURNS + "<|im_start|>user\n", PROMPT, "so it does not open the assistant's turn: name another model"),
        (TURNS + OPENED, THINKING, "knows no thinking: set prompt.enable_thinking: false"),
        (ALWAYS_THINKING, PROMPT, "opens a think block although prompt.enable_thinking is false: set it to true"),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS + OPENED,
            PROMPT,
            r"refuses the prompt \(no system role\); if it takes no system message, set prompt.system: null",
        ),
        (TURNS.replace("messages", "messages[1:]") + OPENED, PROMPT, "drops the system message: set prompt.system"),
        (TURNS.replace("{{ m['content'] }}", "{{ m['content'] | upper }}") + OPENED, PROMPT, "the same text around"),
        (TURNS + "{{ messages[-1]['content'] | length }}" + OPENED, PROMPT, "the same text around each problem"),
        (CHAT_TEMPLATE.replace("<|im_end|>\n{% endfor", "<|endoftext|>{% endfor"), PROMPT, "no answer would end"),
    ],
)  # fmt: skip
def test_a_template_that_is_refused(folder, template, prompt, said):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=said):
        check_base_model(folder, prompt, 90)


def test_without_a_template(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template: name a model that was trained for conversations"):
        check_base_model(folder, PROMPT, 90)


def test_a_turn_is_closed_by_one_of_the_end_tokens(folder):
    """EOS of Qwen's base models is <|endoftext|>, and turns end in <|im_end|>. Gemma is alike, but names both."""
    edit(folder, "tokenizer_config.json", eos_token="<|endoftext|>")
    edit(folder, "generation_config.json", eos_token_id=0)
    with pytest.raises(
        UserError, match=r"answers end at '<\|endoftext\|>' .* closes one with '<\|im_end\|>'.*would end"
    ):
        check_base_model(folder, PROMPT, 90)
    edit(folder, "generation_config.json", eos_token_id=[0, 2])
    tokenizer = check_base_model(folder, PROMPT, 90)
    assert end_token_ids(folder, tokenizer) == [0, 2]


@pytest.mark.parametrize("ids", [2, [2], [0, 2], None])  # 0 is <|endoftext|>, 2 <|im_end|>
def test_generation_may_end_at_more_than_eos(folder, ids):
    edit(folder, "generation_config.json", eos_token_id=ids)
    check_base_model(folder, PROMPT, 90)
    (folder / "generation_config.json").unlink()
    check_base_model(folder, PROMPT, 90)


@pytest.mark.parametrize("ids", [0, [0, 1]])
def test_generation_that_does_not_end_at_eos(folder, ids):
    edit(folder, "generation_config.json", eos_token_id=ids)
    with pytest.raises(UserError, match=r"generation ends at \['<\|endoftext\|>'.*not at the tokenizer's EOS"):
        check_base_model(folder, PROMPT, 90)


def test_the_model_may_have_more_rows_than_the_tokenizer_ids_but_not_fewer(folder):
    edit(folder, "config.json", vocab_size=VOCABULARY + 5)  # Qwen3: 151,936 rows, 151,669 ids
    check_base_model(folder, PROMPT, 90)
    edit(folder, "config.json", vocab_size=VOCABULARY - 1)
    said = rf"ids go up to {VOCABULARY - 1}, the model has {VOCABULARY - 1} \(vocab_size"
    with pytest.raises(UserError, match=said):
        check_base_model(folder, PROMPT, 90)


def test_positions(folder):
    check_base_model(folder, PROMPT, 256 - 64)
    with pytest.raises(UserError, match="together more than the 256 tokens of the model"):
        check_base_model(folder, PROMPT, 256 - 63)


def test_the_prefix_is_one_token(folder):
    with pytest.raises(UserError, match="prompt.prefix_token '<s>' is .* not one token"):
        check_base_model(folder, replace(PROMPT, prefix_token="<s>"), 90)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model_type": "tiny_custom", "auto_map": {"AutoConfig": "configuration_tiny.TinyConfig"}},
            "config.json: transformers has no such model .* code that comes with a model is never run",
        ),
        ({"model_type": "vit"}, "model_type 'vit' is not supported, only decoders with rotary positions that are"),
        ({"model_type": "gemma2"}, r"model_type 'gemma2' is not supported, .* \(no .* soft-capped attention"),
        ({"model_type": "qwen3_moe"}, r"model_type 'qwen3_moe' is not supported, .* \(no mixtures of experts"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config is .* not supported with"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0, which qwen3 is not supported with"),
    ],
)
def test_a_model_that_is_not_supported(folder, changes, said):
    (folder / "configuration_tiny.py").write_text("raise SystemExit('ran')")
    edit(folder, "config.json", **changes)
    with pytest.raises(UserError, match=said):
        check_base_model(folder, PROMPT, 90)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_passes(tmp_path, family):
    family_model(family).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    check_base_model(tmp_path, PROMPT, 90)


def test_an_option_that_the_plan_of_memory_does_not_know(tmp_path):
    family_model("phi", qk_layernorm=True).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="this phi has 16,991 parameters, the plan of memory 16,927: it has an option"):
        check_base_model(tmp_path, PROMPT, 90)


def test_rows_stay_within_the_first_range_of_longrope(tmp_path):
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    model = family_model("phi3", rope_parameters=rope, original_max_position_embeddings=128)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    check_base_model(tmp_path, PROMPT, 64)
    with pytest.raises(UserError, match="together more than the 128 tokens of the model"):
        check_base_model(tmp_path, PROMPT, 65)
