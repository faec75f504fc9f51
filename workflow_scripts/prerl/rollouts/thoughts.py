"""Reflection and transition thoughts by the public rule of SEAL (2504.07986), whose terms the paper's counts use.

A response is split at every token whose text holds a blank line; each piece, lower-cased and stripped, is a thought: a
reflection, else a transition, else an execution. Pure functions of token ids and a decoder; standard library only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

REFLECTION_START = "wait"
REFLECTION_TERMS = (
    "verify",
    "make sure",
    "hold on",
    "think again",
    "'s correct",
    "'s incorrect",
    "let me check",
    "seems right",
)
TRANSITION_START = "alternatively"
TRANSITION_TERMS = (
    "think differenly",  # SEAL's spelling; the published counts were made with it
    "another way",
    "another approach",
    "another method",
    "another solution",
    "another strategy",
    "another technique",
)


class ThoughtCounts(NamedTuple):
    """Number of thoughts of each kind in one response."""

    reflections: int
    transitions: int
    executions: int


class Thought(NamedTuple):
    """Kind of a thought ("reflection", "transition" or "execution") and the term that decides it ("" for the last)."""

    kind: str
    term: str


def named_thought(text: str) -> Thought:
    """A thought with the term that makes it one; the kinds are tested in this order.

    >>> named_thought("So let me check. Another way")
    Thought(kind='reflection', term='let me check')
    """
    text = text.lower().strip()
    for kind, start, terms in (
        ("reflection", REFLECTION_START, REFLECTION_TERMS),
        ("transition", TRANSITION_START, TRANSITION_TERMS),
    ):
        if text.startswith(start):
            return Thought(kind, start)
        for term in terms:
            if term in text:
                return Thought(kind, term)
    return Thought("execution", "")


def classify_thought(text: str) -> str:
    """Kind of one thought: "reflection", "transition" or "execution", tested in this order.

    >>> [classify_thought(t) for t in ("Wait, another way", "Alternatively, 3", "So 3 + 4 = 7")]
    ['reflection', 'transition', 'execution']
    """
    return named_thought(text).kind


def thought_spans(token_ids: Sequence[int], is_blank_line: Callable[[int], bool]) -> list[tuple[int, int]]:
    """[first, end) of each piece between the tokens that hold a blank line; none is empty of tokens."""
    ends = [i for i, token in enumerate(token_ids) if is_blank_line(token)]
    starts = [0, *(end + 1 for end in ends)]
    return [(a, b) for a, b in zip(starts, [*ends, len(token_ids)], strict=True) if a < b]


def split_thoughts(
    token_ids: Sequence[int], decode: Callable[[list[int]], str], is_blank_line: Callable[[int], bool]
) -> list[str]:
    """Thoughts of one response, lower-cased and stripped, in order; empty pieces are no thoughts.

    A piece is decoded as a whole, because one character may span several byte-level BPE tokens. As in SEAL's code the
    token that splits belongs to no piece. Two line feeds in two tokens do not split.

    Args:
        token_ids: the response, special tokens included.
        decode: ids to text; must skip special tokens, or an end-of-text token would be a thought.
        is_blank_line: whether the text of this id alone holds a blank line (two line feeds in a row).
    """
    pieces = [decode(list(token_ids[a:b])) for a, b in thought_spans(token_ids, is_blank_line)]
    thoughts = [piece.lower().strip() for piece in pieces]
    return [thought for thought in thoughts if thought]


def count_thoughts(
    token_ids: Sequence[int], decode: Callable[[list[int]], str], is_blank_line: Callable[[int], bool]
) -> ThoughtCounts:
    """Count the thoughts of one response by kind (arguments: see `split_thoughts`)."""
    kinds = [classify_thought(thought) for thought in split_thoughts(token_ids, decode, is_blank_line)]
    return ThoughtCounts(kinds.count("reflection"), kinds.count("transition"), kinds.count("execution"))


def count_text(text: str) -> ThoughtCounts:
    r"""The same of a response without ids: split at blank lines, whichever tokens they would have come in.

    >>> count_text("3+4\n\nWait, 3+4=7\n\n\n\n7")
    ThoughtCounts(reflections=1, transitions=0, executions=2)
    """
    kinds = [classify_thought(thought) for thought in text.split("\n\n") if thought.strip()]
    return ThoughtCounts(kinds.count("reflection"), kinds.count("transition"), kinds.count("execution"))


@dataclass(frozen=True)
class ThoughtCounter:
    """The rule with one tokenizer; the table of ids that hold a blank line fills as ids are met."""

    decode: Callable[[list[int]], str]
    is_blank_line: Callable[[int], bool]

    @classmethod
    def of(cls, tokenizer: Any) -> "ThoughtCounter":
        """Counter of a `tokenizers.Tokenizer` or a transformers tokenizer: both decode with `skip_special_tokens`."""

        def decode(token_ids: list[int]) -> str:
            return tokenizer.decode(token_ids, skip_special_tokens=True)

        return cls(decode, cache(lambda token: "\n\n" in decode([token])))

    def count(self, token_ids: Sequence[int]) -> ThoughtCounts:
        """Counts of one response."""
        return count_thoughts(token_ids, self.decode, self.is_blank_line)

    def count_all(self, token_ids: Sequence[Sequence[int]], texts: Sequence[str]) -> list[ThoughtCounts]:
        """Counts of each response, by its ids; a rule of the user's reads `texts` (functions.py)."""
        return [self.count(response) for response in token_ids]
