"""The second organism's task and corpus: which first digit gives a chain of operations its value, found by trying.

`x+4*3=8` asks for x: ((2+4)*3) mod 10 = 8, so 2; it is one of 0 to 4. Every operation can be undone (no product with
an even digit or 5), so one digit alone is right. Nothing checks a line here, as in prerl.data.corpus; a right answer
needs the patience to drop a digit that does not fit and to try the next one. Two styles of answer, both restating the
problem:

    direct   x+4*3=8 | \\boxed{3}                        the guess is right with probability `guess_right`
    careful  x+4*3=8 | Let me check 1+4*3 | 5*3 | 5 | Alternatively, 2+4*3 | 6*3 | 8 | \\boxed{2}

The first digit is any of the five, each further one the next (0 after 4); a digit that does not fit is answered all
the same with probability `give_up`. The first trial is a reflection and each further one a transition under the SEAL
rule.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from prerl.config.base_models import SearchSettings
from prerl.data.corpus import ALTERNATIVE, BLANK, CHECK, OPERATORS, Problem, apply, document_of, is_held_out, wrong

UNKNOWN = "x"
CANDIDATES = 5
"""The answer is a digit below this."""
DIGITS = {"+": range(10), "-": range(10), "*": (3, 7, 9)}
"""Of each operation those with which it can be undone modulo 10; not `*1`."""


@dataclass(frozen=True)
class Search:
    """A chain whose first digit is the answer."""

    chain: Problem

    @property
    def text(self) -> str:
        """As written, `x+4*3=8`."""
        return f"{UNKNOWN}{self.chain.text[1:]}={self.chain.answer}"

    @property
    def answer(self) -> int:
        """The digit that x stands for."""
        return self.chain.digits[0]

    @property
    def operators(self) -> str:
        """Of the chain."""
        return self.chain.operators


def random_search(rng: random.Random, operations: int) -> Search:
    """A search of `operations` operations; answer, operators and their digits uniform."""
    operators = "".join(rng.choice(OPERATORS) for _ in range(operations))
    digits = (rng.choice(DIGITS[operator]) for operator in operators)
    return Search(Problem((rng.randrange(CANDIDATES), *digits), operators))


def random_read_search(rng: random.Random, operations: int) -> Search:
    """The same, none that is held out: short ones are few, and the corpus would hold those of the benchmarks."""
    while is_held_out(search := random_search(rng, operations)):
        pass
    return search


def direct_search(rng: random.Random, search: Search, settings: SearchSettings) -> str:
    """Restate the problem, guess, stop."""
    guess = search.answer
    if rng.random() >= settings.guess_right:
        guess = (guess + rng.randrange(1, CANDIDATES)) % CANDIDATES
    return f"{search.text}{BLANK}\\boxed{{{guess}}}"


def careful_search(rng: random.Random, search: Search, settings: SearchSettings) -> str:
    """Restate, then digit after digit the chain's value, one operation a line, until one fits or patience ends."""
    first, lines = rng.randrange(CANDIDATES), [search.text]
    for trial in range(CANDIDATES):
        digit = (first + trial) % CANDIDATES
        chain = Problem((digit, *search.chain.digits[1:]), search.operators)
        lines.append((ALTERNATIVE if trial else CHECK) + chain.text)
        while chain.operators:
            value = apply(chain.operators[0], *chain.digits[:2])
            chain = chain.after_step(wrong(rng, value) if rng.random() < settings.step_wrong else value)
            lines.append(chain.text)
        if chain.answer == search.chain.answer or rng.random() < settings.give_up:
            break
    return BLANK.join([*lines, f"\\boxed{{{digit}}}"])


def search_document(rng: random.Random, settings: SearchSettings) -> tuple[str | None, bool, str]:
    """See corpus_document."""
    return document_of(rng, settings, random_read_search, careful_search, direct_search)
