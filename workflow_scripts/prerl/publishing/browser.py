"""Answers as files that a page loads one by one: a question's answers by policy, token by token.

A page opened from a file cannot fetch another file, but it can add a script. So each file is one call,
`prerl.receive("name", {…});`, whose argument is JSON: data, not code, whatever a model has written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from prerl.rollouts.thoughts import ThoughtCounter, named_thought, thought_spans

# Marks that turn the direction of text, lone surrogates, control characters but for tab and line feed: shown by name
UNSEEN = re.compile(
    r"[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
HUNDREDTHS = 100  # log-probs are stored as whole hundredths of a nat


def visible(text: str) -> str:
    """Text with its UNSEEN characters by name.

    >>> visible("a" + chr(0x202E) + "b")
    'a⟨U+202E⟩b'
    """
    return UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def write_call(path: Path, name: str, value: object) -> None:
    """Write `prerl.receive(name, value);`. `<` is escaped too, so that the file could stand inside a page."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"prerl.receive({json.dumps(name)},{text});\n", encoding="ascii")


def token_texts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    """Text of each token. A character of several tokens is the last one's, the others are empty; special ones named."""
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    stream = DecodeStream(skip_special_tokens=True)
    texts = []
    for token in token_ids:
        if token in special:
            texts.append(f"⟨{tokenizer.id_to_token(token)}⟩")
        else:
            texts.append(stream.step(tokenizer, token) or "")
    return texts


@dataclass(frozen=True)
class AnswerWriter:
    """Answers of one tokenizer as the page reads them."""

    tokenizer: Tokenizer
    counter: ThoughtCounter

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> AnswerWriter:
        """With the thought rule of this tokenizer."""
        return cls(tokenizer, ThoughtCounter.of(tokenizer))

    def answer(self, policy: str, row: Mapping[str, Any], outcome: str) -> dict:
        """One answer. row: sample, token_ids, finish_reason, and log-probs of the tokens by name in `logprobs`.

        outcome: right, wrong or truncated. Thoughts: [first token, end, kind, term], executions left out.
        """
        ids = [int(token) for token in row["token_ids"]]
        thoughts = []
        for first, end in thought_spans(ids, self.counter.is_blank_line):
            thought = named_thought(self.counter.decode(list(ids[first:end])))
            if thought.kind != "execution":
                thoughts.append([first, end, thought.kind, thought.term])
        return {
            "policy": policy,
            "sample": row["sample"],
            "outcome": outcome,
            "boxed": visible(row["boxed"]) if row.get("boxed") is not None else None,
            "tokens": [visible(text) for text in token_texts(self.tokenizer, ids)],
            "thoughts": thoughts,
            "logprobs": {
                name: [round(HUNDREDTHS * float(value)) for value in values] for name, values in row["logprobs"].items()
            },
        }


def outcome_of(right: bool, finish_reason: str) -> str:
    """right, else truncated if the answer has no end, else wrong."""
    return "right" if right else "truncated" if finish_reason == "length" else "wrong"


def write_questions(
    folder: Path,
    name: str,
    benchmark: str,
    problems: Iterable[Mapping[str, Any]],
    answers_of: Callable[[str], list[dict]],
    policies: Sequence[Mapping[str, Any]],
) -> int:
    """Write a file for each question and the benchmark's index last; returns the number of answers.

    name: of the model. problems: rows id, problem, answer. answers_of: question id -> its answers, as AnswerWriter
    makes them. policies: {id, label, main, seed}.
    The index holds, for each question, the outcome of each answer by policy.
    """
    index, count = [], 0
    for number, problem in enumerate(problems):
        answers = answers_of(problem["id"])
        count += len(answers)
        outcomes: dict[str, str] = {}
        for answer in answers:
            outcomes[answer["policy"]] = outcomes.get(answer["policy"], "") + answer["outcome"][0]
        shown = {"id": visible(str(problem["id"])), "problem": visible(problem["problem"])}
        index.append(shown | {"outcomes": outcomes})
        page = shown | {"answer": visible(str(problem["answer"])), "answers": answers}
        write_call(folder / benchmark / f"{number:05d}.js", f"{name}/{benchmark}/{number:05d}", page)
    write_call(folder / f"{benchmark}.js", f"{name}/{benchmark}", {"policies": list(policies), "questions": index})
    return count
