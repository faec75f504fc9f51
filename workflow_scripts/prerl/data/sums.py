"""Sums of two whole numbers in words, for a small language model that is shown how to answer (prompt.examples)."""

from __future__ import annotations

import hashlib
import random


def sum_problems(rng: random.Random, largest: int, questions: int, held_out: bool) -> list[tuple[str, str]]:
    """`questions` different problems with their answers, such as ("What is 7 plus 12?", "19"), in random order.

    One problem in eight, by a hash of its text, is held out for benchmarks; the others are for training. Raises
    ValueError if there are not that many.
    """
    numbers = range(largest + 1)
    every = [(f"What is {a} plus {b}?", str(a + b)) for a in numbers for b in numbers]
    chosen = [(text, answer) for text, answer in every if is_held_out(text) == held_out]
    if len(chosen) < questions:
        raise ValueError(f"there are {len(chosen)} such sums up to {largest}, not {questions}: ask for fewer")
    return rng.sample(chosen, questions)


def is_held_out(text: str) -> bool:
    """Whether a problem is for benchmarks rather than for training, by a hash: the two are disjoint."""
    return hashlib.blake2b(text.encode()).digest()[0] % 8 == 0
