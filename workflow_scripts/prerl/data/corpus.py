"""The miniature's task and corpus: left-to-right arithmetic on one digit, modulo 10.

`3+4*2` is ((3+4)*2) mod 10 = 4. As Qwen3, the base model has two modes, told apart by an empty think block in the
prompt; its corpus also holds answers alone, so that P(y) is a trained quantity. Two styles of answer, paragraphs
separated by a blank line, both restating the expression first:

    direct   3+4*2 | \\boxed{7}                                     the guess is right with probability `guess_right`
    careful  3+4*2 | 6*2 | Let me check 3+4=7 | Alternatively, 7*2 | 4 | \\boxed{4}

A check is a reflection and a corrected line a transition under the SEAL rule (prerl.rollouts.thoughts).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prerl.config.base_models import CorpusSettings, Shares

OPERATORS = "+-*"
BLANK = "\n\n"
CHECK = "Let me check "
ALTERNATIVE = "Alternatively, "


@dataclass(frozen=True)
class Problem:
    """An expression of `len(operators)` operations: digits[0] operators[0] digits[1] …"""

    digits: tuple[int, ...]
    operators: str

    @property
    def text(self) -> str:
        """The expression as written, `3+4*2`."""
        return str(self.digits[0]) + "".join(f"{o}{d}" for o, d in zip(self.operators, self.digits[1:], strict=True))

    @property
    def answer(self) -> int:
        """Value modulo 10, operations from left to right. Problem((3, 4, 2), '+*').answer == 4."""
        value = self.digits[0]
        for operator, digit in zip(self.operators, self.digits[1:], strict=True):
            value = apply(operator, value, digit)
        return value

    def after_step(self, value: int) -> Problem:
        """The remaining expression once the first operation gave `value`."""
        return Problem((value, *self.digits[2:]), self.operators[1:])


def apply(operator: str, left: int, right: int) -> int:
    """One operation modulo 10: apply('*', 7, 4) == 8."""
    if operator == "+":
        return (left + right) % 10
    if operator == "-":
        return (left - right) % 10
    if operator == "*":
        return left * right % 10
    raise ValueError(f"operator {operator!r} is none of {OPERATORS}")


def random_problem(rng: random.Random, operations: int) -> Problem:
    """A problem of `operations` operations, digits and operators uniform."""
    digits = tuple(rng.randrange(10) for _ in range(operations + 1))
    return Problem(digits, "".join(rng.choice(OPERATORS) for _ in range(operations)))


def wrong(rng: random.Random, value: int) -> int:
    """Any other digit."""
    return (value + rng.randrange(1, 10)) % 10


def direct_answer(rng: random.Random, problem: Problem, settings: CorpusSettings) -> str:
    """Restate the expression, guess, stop."""
    guess = problem.answer if rng.random() < settings.guess_right else wrong(rng, problem.answer)
    return f"{problem.text}{BLANK}\\boxed{{{guess}}}"


def careful_answer(rng: random.Random, problem: Problem, settings: CorpusSettings) -> str:
    """Restate, then one operation a line; a line may be wrong, checked, and corrected where the check disagrees."""
    lines = [problem.text]
    while problem.operators:
        operator, left, right = problem.operators[0], *problem.digits[:2]
        true = apply(operator, left, right)
        value = wrong(rng, true) if rng.random() < settings.step_wrong else true
        lines.append(problem.after_step(value).text)
        if rng.random() < settings.check:
            checked = true if rng.random() < settings.check_right else wrong(rng, true)
            lines.append(f"{CHECK}{left}{operator}{right}={checked}")
            if checked != value:
                value = checked
                lines.append(ALTERNATIVE + problem.after_step(value).text)
        problem = problem.after_step(value)
    return BLANK.join([*lines, f"\\boxed{{{problem.digits[0]}}}"])


class Asked(Protocol):
    """A problem of any task."""

    @property
    def text(self) -> str:
        """As the model reads it."""

    @property
    def answer(self) -> int:
        """The digit in the box."""

    @property
    def operators(self) -> str:
        """One for each operation."""


P = TypeVar("P", bound=Asked)
S = TypeVar("S", bound=Shares)


def document_of(
    rng: random.Random,
    settings: S,
    draw: Callable[[random.Random, int], P],
    careful_of: Callable[[random.Random, P, S], str],
    direct_of: Callable[[random.Random, P, S], str],
) -> tuple[str | None, bool, str]:
    """One document of a task: (problem or None for an answer alone, thinking mode, answer)."""
    lengths = list(settings.chain_weights)
    problem = draw(rng, rng.choices(lengths, [settings.chain_weights[k] for k in lengths])[0])
    kind = rng.random()
    thinking = kind < settings.prompt_thinking
    alone = kind >= settings.prompt_thinking + settings.prompt_no_thinking
    if alone:
        careful = settings.careful_if_alone
    else:
        careful = settings.careful_if_thinking if thinking else settings.careful_if_no_thinking
    write = careful_of if rng.random() < careful else direct_of
    return None if alone else problem.text, thinking, write(rng, problem, settings)


def corpus_document(rng: random.Random, settings: CorpusSettings) -> tuple[str | None, bool, str]:
    """One document: (problem or None for an answer alone, thinking mode, answer)."""
    return document_of(rng, settings, random_problem, careful_answer, direct_answer)


def is_held_out(problem: Asked) -> bool:
    """Whether a problem is for benchmarks (one in eight, by a hash of its text) rather than for training.

    This keeps training set and benchmarks disjoint whichever of them are made, and a new benchmark changes no other.
    """
    return hashlib.blake2b(problem.text.encode()).digest()[0] % 8 == 0


def problem_set(
    rng: random.Random, draw: Callable[[random.Random, int], P], operations: list[int], questions: int, held_out: bool
) -> list[P]:
    """`questions` different problems that `draw` gives, held out or not, operations drawn uniformly from the list."""
    problems: dict[str, P] = {}
    for _ in range(questions * 200):
        if len(problems) == questions:
            break
        problem = draw(rng, rng.choice(operations))
        if is_held_out(problem) == held_out:
            problems[problem.text] = problem
    if len(problems) < questions:
        raise ValueError(f"there are not {questions} different problems of {operations} operations: ask for fewer")
    return list(problems.values())
