"""Prompts as ids: golden ids of Qwen's tokenizer, the prefix token, truncation, the miniature's template."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from prerl.config.checks import _prompt_faults
from prerl.config.prompt import PromptSettings
from prerl.config.scales import read_config, read_files
from prerl.data.miniature import build_tokenizer
from prerl.models.base_model import check_base_model
from prerl.models.prompts import (
    PromptError,
    chat_text,
    encode_prompts,
    end_token_ids,
    load_tokenizer,
    prefix_token_id,
)


def prompt_settings(system, enable_thinking, max_prompt_tokens, prefix_token="<|im_start|>"):
    return PromptSettings(
        system=system,
        enable_thinking=enable_thinking,
        prefix_token=prefix_token,
        max_prompt_tokens=max_prompt_tokens,
    )


QWEN = Path(__file__).parents[4] / "shared" / "data" / "qwen_tokenizer"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
SETTINGS = PromptSettings(system=SYSTEM, enable_thinking=False, prefix_token="<|im_start|>", max_prompt_tokens=1024)
# shared data/SOURCES.md: "What is 1+1?" under the paper's system prompt, enable_thinking=False
GOLDEN = [151644, 8948, 198, 5501, 2874, 3019, 553, 3019, 11, 323, 2182, 697, 1590, 4226, 2878, 1124, 79075, 46391]
GOLDEN += [151645, 198, 151644, 872, 198, 3838, 374, 220, 16, 10, 16, 30, 151645, 198, 151644, 77091, 198]
GOLDEN += [151667, 271, 151668, 271]


@pytest.fixture(scope="module")
def qwen():
    if not (QWEN / "vocab.json").is_file():
        pytest.skip(f"{QWEN} is missing: Qwen's tokenizer files stand there (vocab.json, merges.txt)")
    return load_tokenizer(QWEN)


@pytest.fixture(scope="module")
def words():
    return build_tokenizer()


def test_golden_ids_of_the_papers_prompt(qwen):
    assert encode_prompts(qwen, ["What is 1+1?"], SETTINGS) == [GOLDEN]


def test_no_special_token_is_doubled(qwen):
    (ids,) = encode_prompts(qwen, ["What is 1+1?"], SETTINGS)
    assert ids.count(151644) == 3 and ids.count(151645) == 2  # system, user, opened assistant; two closed turns
    assert ids.count(151667) == ids.count(151668) == 1
    assert all(a != b for a, b in zip(ids, ids[1:], strict=False) if a >= 151643)


def test_the_empty_think_block_belongs_to_x_only_without_thinking(qwen):
    thinking = prompt_settings(SYSTEM, True, 1024)
    assert encode_prompts(qwen, ["What is 1+1?"], thinking) == [GOLDEN[:-4]]


def test_without_a_system_message_there_is_no_system_turn(qwen):
    settings = prompt_settings(None, False, 1024)
    assert encode_prompts(qwen, ["What is 1+1?"], settings) == [GOLDEN[20:]]


def prefix(tokenizer, token, system=None):
    return prefix_token_id(tokenizer, prompt_settings(system, False, 64, token))


@pytest.mark.parametrize("token", ["<|im_start|>", "auto"])
def test_the_prefix_is_qwens_im_start(qwen, words, token):
    assert prefix(qwen, token) == prefix(qwen, token, SYSTEM) == 151644
    assert prefix(words, token) == words.convert_tokens_to_ids("<|im_start|>")


def test_auto_is_the_token_that_prompts_begin_with(words):
    """Llama, Mistral and Gemma begin with BOS; some templates begin with ordinary words."""
    words = copy.deepcopy(words)
    words.add_special_tokens({"bos_token": "<bos>"})
    template = words.chat_template
    words.chat_template = "{{ bos_token }}" + template
    assert prefix(words, "auto") == words.bos_token_id != prefix(words, "<|im_start|>")
    words.chat_template = "Let " + template
    with pytest.raises(
        PromptError, match="prefix_token: auto, but the chat template begins with 'Let', no special token"
    ):
        prefix(words, "auto")


@pytest.mark.parametrize("token", ["<|im_start|>user", "two words", "", "<|nosuch|>"])
def test_a_prefix_that_is_not_one_token_is_refused(qwen, token):
    with pytest.raises(PromptError, match="not one token.*<\\|im_start\\|>"):
        prefix(qwen, token)


@pytest.mark.parametrize("token", ["house", "<unk>x", "Let me"])
def test_an_unknown_prefix_is_refused_by_the_word_tokenizer(words, token):
    with pytest.raises(PromptError, match="not one token"):
        prefix(words, token)


@pytest.mark.parametrize("longest", [1, 4, 38, 39, 40])
def test_truncation_is_on_the_left_and_said(qwen, longest, capsys):
    settings = prompt_settings(SYSTEM, False, longest)
    short, long = encode_prompts(qwen, ["What is 1+1?", "What is 1+1? " * 50], settings)
    assert short == GOLDEN[-longest:] and len(long) == longest
    assert long[-min(longest, 9) :] == GOLDEN[-min(longest, 9) :]  # the opened assistant turn stays
    said = f"{1 + (longest < 39)} of 2 prompts lose their left end: prompt.max_prompt_tokens is {longest}"
    assert len(GOLDEN) == 39 and said in capsys.readouterr().out


def test_text_of_a_problem_that_looks_like_the_template_keeps_its_ids(qwen):
    (ids,) = encode_prompts(qwen, ["a <|im_end|> b"], SETTINGS)
    assert ids.count(151645) == 3  # as the official code: a special token in the text is that token


def test_missing_tokenizer_and_missing_eos_name_the_remedy(tmp_path, words):
    with pytest.raises(PromptError, match="holds no tokenizer.*fetch or save the model folder again"):
        load_tokenizer(tmp_path)
    words.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).eos_token == "<|im_end|>"
    config = (tmp_path / "tokenizer_config.json").read_text().replace('"eos_token": "<|im_end|>",', "")
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(PromptError, match="no EOS token; set `eos_token`"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("named", "others"),
    [
        ("[151645, 151643]", [151643]),
        ("[151643, 151645]", [151643]),
        ("151643", [151643]),
        ("151645", []),
        ("null", []),
    ],
)
def test_end_tokens_are_eos_and_those_of_the_generation_config(tmp_path, named, others):
    words = SimpleNamespace(eos_token_id=151645)
    assert end_token_ids(tmp_path, words) == [151645]  # a folder without the file
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": {named}, "temperature": 0.6}}')
    assert end_token_ids(tmp_path, words) == [151645, *others]


def test_a_template_that_asks_for_the_date_gets_the_same_on_every_day(words):
    words = copy.deepcopy(words)
    date = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %} "
    words.chat_template = date + words.chat_template
    text = chat_text(words, "3+4", prompt_settings(None, True, 64))
    assert text == "26 Jul 2024 <|im_start|>user\n3+4<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("thinking", [True, False])
def test_the_miniatures_template(words, thinking):
    settings = prompt_settings(None, thinking, 64)
    (ids,) = encode_prompts(words, ["3+4*2"], settings)
    expected = [
        "<|im_start|>",
        "user",
        "\n",
        "3",
        "+",
        "4",
        "*",
        "2",
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant",
        "\n",
    ]
    expected += [] if thinking else ["<think>", "\n\n", "</think>", "\n\n"]
    assert words.convert_ids_to_tokens(ids) == expected


@pytest.mark.parametrize(("thinking", "system"), [(True, None), (False, None), (False, "2"), (False, "")])
def test_the_least_prompt_of_the_configurations_check_is_the_miniatures(words, thinking, system):
    """The smallest limit that is accepted at every start, without a tokenizer, is the shortest prompt's length."""
    block = read_config(read_files() | {"scale": "miniature"})
    block["prompt"] |= {"enable_thinking": thinking, "system": system}
    block["data"]["benchmarks"] = {"chain4": block["data"]["benchmarks"]["chain4"]}  # problems as 1+2+3+4+5
    block["data"]["train"] = block["data"]["benchmarks"]["chain4"]
    (ids,) = encode_prompts(words, ["1+2+3+4+5"], prompt_settings(system, thinking, 64))
    assert _prompt_faults(block | {"prompt": block["prompt"] | {"max_prompt_tokens": len(ids)}}) == []
    (fault, _) = _prompt_faults(block | {"prompt": block["prompt"] | {"max_prompt_tokens": len(ids) - 1}})
    assert f"is below every prompt of train: {len(ids)} tokens or more" in fault


def test_the_miniatures_template_has_a_system_turn_where_asked(words):
    (ids,) = encode_prompts(words, ["1"], prompt_settings("2", True, 64))
    assert words.convert_ids_to_tokens(ids)[:5] == ["<|im_start|>", "system", "\n", "2", "<|im_end|>"]


def test_a_saved_and_loaded_miniature_tokenizer_gives_the_same_prompts(words, tmp_path):
    words.save_pretrained(tmp_path)
    settings = prompt_settings(None, False, 64)
    problems = ["3+4*2", "9-8-7"]
    assert encode_prompts(load_tokenizer(tmp_path), problems, settings) == encode_prompts(words, problems, settings)


def test_qwens_tokenizer_and_the_papers_prompt_pass_the_checks_of_a_base_model(qwen, tmp_path):
    qwen.save_pretrained(tmp_path)
    config = {"model_type": "qwen3", "vocab_size": 151936, "max_position_embeddings": 40960}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [151645, 151643]}))
    assert check_base_model(tmp_path, SETTINGS, 8192).eos_token_id == 151645
