"""Answers for the page's browser: tokens, thoughts, what hostile text becomes."""

import json

import pytest
from tokenizers import Tokenizer

import page_run
from page_run import HOSTILE
from prerl.publishing.browser import AnswerWriter, outcome_of, token_texts, visible, write_call, write_questions


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return page_run.tokenizer()


def test_token_texts_join_to_the_text_and_name_special_tokens(tokenizer):
    text = "é 漢字 🙂 So"
    ids = [*tokenizer.encode(text).ids, tokenizer.token_to_id("<|im_end|>")]
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text + "⟨<|im_end|>⟩"
    assert texts[0] == "" and texts[1] == "é"  # two bytes, two tokens: the character is the last one's


def test_an_answer_by_hand(tokenizer):
    ids = tokenizer.encode("So 3\n\nWait, let me check\n\nAlternatively, 4").ids
    blank = [i for i, token in enumerate(ids) if "\n\n" in tokenizer.decode([token])]
    assert len(blank) == 2
    row = {"sample": 0, "token_ids": ids, "boxed": None, "logprobs": {"yx": [-0.126] * len(ids)}}
    answer = AnswerWriter.of(tokenizer).answer("dsrl@60/11", row, "wrong")
    assert answer["thoughts"] == [
        [blank[0] + 1, blank[1], "reflection", "wait"],
        [blank[1] + 1, len(ids), "transition", "alternatively"],
    ]
    assert answer["logprobs"]["yx"] == [-13] * len(ids)
    assert answer["boxed"] is None


def test_outcomes():
    assert [outcome_of(True, "length"), outcome_of(False, "length"), outcome_of(False, "stop")] == [
        "right", "truncated", "wrong",
    ]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_data(name, tmp_path):
    path = tmp_path / "call.js"
    write_call(path, "m/b", {"text": visible(HOSTILE[name])})
    text = path.read_bytes().decode("ascii")
    assert "<" not in text
    prefix, suffix = 'prerl.receive("m/b",', ");\n"
    assert text.startswith(prefix) and text.endswith(suffix)
    value = json.loads(text[len(prefix) : -len(suffix)])["text"]
    assert value == HOSTILE[name].replace("\u202e", "⟨U+202E⟩").replace("\u2066", "⟨U+2066⟩").replace(
        "\ud800", "⟨U+D800⟩"
    )


def test_questions_and_index(tmp_path, tokenizer):
    writer = AnswerWriter.of(tokenizer)
    ids = tokenizer.encode("So 3").ids

    def answers(question: str) -> list[dict]:
        row = {"token_ids": ids, "boxed": "3", "logprobs": {"yx": [0.0] * len(ids)}}
        outcomes = ["right", "truncated"] if question == "q1" else ["wrong", "wrong"]
        return [writer.answer("grpo@60/11", row | {"sample": i}, outcome) for i, outcome in enumerate(outcomes)]

    problems = [{"id": f"q{i}", "problem": f"<b>{i}</b>", "answer": "3"} for i in (1, 2)]
    policies = [{"id": "grpo@60/11", "label": "GRPO @60", "main": True, "seed": 11}]
    assert write_questions(tmp_path, "m", "chain3", problems, answers, policies) == 4
    index = (tmp_path / "chain3.js").read_text()
    value = json.loads(index.removeprefix('prerl.receive("m/chain3",').removesuffix(");\n"))
    assert value["questions"][0] == {"id": "q1", "problem": "<b>1</b>", "outcomes": {"grpo@60/11": "rt"}}
    assert value["questions"][1]["outcomes"] == {"grpo@60/11": "ww"}
    assert (tmp_path / "chain3/00001.js").read_text().startswith('prerl.receive("m/chain3/00001",{"id":"q2"')
