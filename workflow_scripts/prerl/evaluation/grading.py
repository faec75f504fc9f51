r"""The second grader: math-verify on the content of the last `\boxed{}`, in worker processes that can be killed.

math-verify hands the answer to SymPy, which can run forever, crash or raise on what a model writes. So each distinct
pair (box, ground truth) goes to a worker process with a time limit. A pair whose worker was killed, died or raised is
"unscorable", and the worker is replaced: no answer affects the verdict of another. math-verify's time limits are off:
they use signals, fail in threads, and turn a timeout into "wrong". Separate from rewards.py, so that edits here do not
retrain.
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

from prerl.core.killable import MEMORY_LIMIT_BYTES, START_LIMIT_S, Failed, NotStarted, Pool
from prerl.evaluation.notation import as_latex, plain_as_latex, same_time

RIGHT, WRONG, UNSCORABLE = "right", "wrong", "unscorable"
_SHOWN_CHARACTERS = 100  # of an unscorable answer, in the log

# (content of the box, ground truth) or (box, truth, unit, tolerance): the arguments of `verify_boxed`
Pair = tuple[str, str] | tuple[str, str, str | None, float | None]

_INTEGER = re.compile("0|-?[1-9][0-9]{0,14}")
_UNIT_LENGTH = 60  # most characters of a unit with its markup
_UNIT_MARKUP = re.compile(r"\\(?:text|mathrm|operatorname|[,;:! ])|[\s~{}\\$.]")
_UNITS = [  # spellings without markup of the units of olympiadbench
    {"min", "mins", "minute", "minutes"},
    {"km", "kilometer", "kilometers", "kilometre", "kilometres"},
    {"km/h", "km/hr", "kmh^-1", "kilometersperhour", "kilometresperhour"},
    {"cm^2", "squarecentimeters", "squarecentimetres"},
    {"%", "percent"},
    {"^circ", "°", "degree", "degrees"},
]


def _without_unit(text: str, unit: str) -> str:
    r"""Drop `unit`, in any spelling of `_UNITS` and any markup, from the right of each part between commas.

    >>> _without_unit(r"\frac{600}{7}\mathrm{~km}/\mathrm{h}", "km/h")
    '\\frac{600}{7}'
    """
    plain = _UNIT_MARKUP.sub("", unit)
    spellings = next((names for names in _UNITS if plain in names), {plain})
    parts = text.replace("\\,", "").split(",")
    for i, part in enumerate(parts):
        for start in range(max(1, len(part) - _UNIT_LENGTH), len(part)):
            head, tail = part[:start], part[start:]
            if _UNIT_MARKUP.sub("", tail) in spellings and tail.count("{") == tail.count("}"):
                parts[i] = head
                break
    return ",".join(parts)


@lru_cache(maxsize=2048)  # answers to one question share its truth, and answers come again
def _parsed(text: str, units: bool) -> list:
    """math-verify's parse of a box: [] or [expression, string]; `units`: whether it may drop words for units."""
    from math_verify import LatexExtractionConfig, parse
    from sympy import Integer

    if _INTEGER.fullmatch(text):
        return [Integer(text), text]  # as math-verify does, whose parser takes milliseconds
    config = LatexExtractionConfig(boxed_match_priority=0)
    config = replace(config, normalization_config=replace(config.normalization_config, units=units))
    return parse(f"\\boxed{{{text}}}", extraction_config=[config], parsing_timeout=None, raise_on_error=True)


def _elements(parsed: list) -> tuple[int, int]:
    """Number of elements of a list as written and without repeats; (1, 1) for anything else."""
    from latex2sympy2_extended.sets import FiniteSet

    is_list = isinstance(parsed[0], FiniteSet)
    return (len(parsed[0]._unsorted_args), len(parsed[0].args)) if is_list else (1, 1)


def verify_boxed(boxed: str, truth: str, unit: str | None = None, tolerance: float | None = None) -> str:
    r"""Verdict of math-verify on the content of a box: "right", "wrong", or "unscorable" if the truth does not parse.

    Strict: LaTeX extraction only, from `\boxed{boxed}`; no number is picked out of surrounding words. Lists are equal
    in any order; a truth with repeated elements needs as many. Has no time limit and raises what SymPy raises: runs in
    a worker (`grade_math_verify`), in its main thread.

    Args:
        unit: unit of the truth, which the box may write or leave out; with another unit it is wrong. None: words that
            math-verify knows as units are dropped, whichever they are.
        tolerance: largest absolute difference from the truth, with the 1 % on top that OlympiadBench's judge allows
            (github.com/OpenBMB/OlympiadBench, math_judger.py: `<= self.precision * 1.01`).

    >>> [verify_boxed(boxed, "4.2", "%", 0.1) for boxed in ("4.3", r"4.1\%", "4.31")]
    ['right', 'right', 'wrong']
    """
    sides = as_latex(boxed), as_latex(truth)
    verdict = _verdict(*sides, unit, tolerance)
    plain = plain_as_latex(boxed), plain_as_latex(truth)
    return verdict if verdict == RIGHT or plain == sides else _verdict(*plain, unit, tolerance)


def _verdict(boxed: str, truth: str, unit: str | None, tolerance: float | None) -> str:
    """`verify_boxed` for boxes that math-verify can read."""
    from math_verify import verify
    from sympy import Expr, N

    from prerl.evaluation.exact import exact_numbers

    if (same := same_time(boxed, truth)) is not None:
        return RIGHT if same else WRONG
    if unit is not None:
        boxed, truth = _without_unit(boxed, unit), _without_unit(truth, unit)
    gold, target = _parsed(truth, unit is None), _parsed(boxed, unit is None)
    if not gold:
        return UNSCORABLE
    with exact_numbers():
        equal = verify(gold, target, timeout_seconds=None, raise_on_error=True)
    if equal:
        written, distinct = _elements(gold)
        return WRONG if distinct < written != _elements(target)[0] else RIGHT
    if tolerance is None or not target or not all(isinstance(side[0], Expr) for side in (gold, target)):
        return WRONG
    difference = N(abs(target[0] - gold[0]))
    return RIGHT if difference.is_number and difference.is_real and difference <= 1.01 * tolerance else WRONG


def _load(grade: Callable[..., str]) -> Callable[..., str]:
    """In a worker: `grade` once math-verify is there; from then on the worker prints nothing."""
    importlib.import_module("prerl.evaluation.exact")  # math-verify and SymPy
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stdout.fileno())
    os.dup2(silence, sys.stderr.fileno())
    return grade


def _grade_pairs(grade: Callable[..., str], pairs: list[Pair], workers: int, time_limit_s: float) -> dict[Pair, str]:
    """Verdict of every distinct pair: what `grade` returned, or "unscorable" (killed at the limit, died or raised)."""
    distinct = list(dict.fromkeys(pairs))
    try:
        with Pool(partial(_load, grade), workers, time_limit_s, preload=["math_verify"]) as pool:
            verdicts = dict(zip(distinct, pool.run(distinct), strict=True))
    except NotStarted as error:
        raise RuntimeError(
            f"a grading worker did not start ({error}): check that `python -c 'import math_verify'` works in this "
            f"environment (pip install -r requirements.txt) within {START_LIMIT_S:.0f} s and "
            f"{MEMORY_LIMIT_BYTES >> 30} GiB of address space"
        ) from None
    for pair, verdict in verdicts.items():
        if isinstance(verdict, Failed):
            boxed, truth = (f"{ascii(text):.{_SHOWN_CHARACTERS}}" for text in pair[:2])
            print(f"unscorable, {verdict.why:.{_SHOWN_CHARACTERS}}: answer {boxed}, truth {truth}", file=sys.stderr)
            verdicts[pair] = UNSCORABLE
    return verdicts


def grade_math_verify(pairs: list[tuple], workers: int, time_limit_s: float) -> list[str]:
    r"""Grade pairs of (content of the last box or None, ground truth): "right", "wrong" or "unscorable" for each.

    A pair may also hold unit and tolerance of the truth (`verify_boxed`). No box is wrong. Identical pairs
    are graded once. A pair that takes longer than `time_limit_s` (wall clock), or whose worker dies or raises, is
    unscorable; a line on stderr says which.

    Raises:
        ValueError: `workers` below 1 or a time limit that is not positive.
        RuntimeError: a worker could not start (math-verify missing), which says nothing about an answer.
    """
    if workers < 1 or not time_limit_s > 0:
        raise ValueError(
            f"workers {workers}, time_limit_s {time_limit_s}: set at least 1 worker and a positive number of seconds"
        )
    verdicts = _grade_pairs(verify_boxed, [pair for pair in pairs if pair[0] is not None], workers, time_limit_s)
    return [WRONG if pair[0] is None else verdicts[pair] for pair in pairs]
