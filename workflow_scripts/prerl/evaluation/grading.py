r"""The second grader: math-verify on the content of the last `\boxed{}`, in worker processes that can be killed.

math-verify hands the answer to SymPy, which can run forever, crash or raise on what a model writes. So each distinct
pair (box, ground truth) goes to a worker process with a time limit. A pair whose worker was killed, died or raised is
"unscorable", and the worker is replaced: no answer affects the verdict of another. math-verify's time limits are off:
they use signals, fail in threads, and turn a timeout into "wrong". Separate from rewards.py, so that edits here do not
retrain.
"""

import importlib
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from prerl.evaluation.workers import die_with_parent

RIGHT, WRONG, UNSCORABLE = "right", "wrong", "unscorable"
_READY = "ready"
_START_LIMIT_S = 300.0  # importing SymPy from a cold network disk takes tens of seconds
_MEMORY_LIMIT_BYTES = 4 << 30  # address space of a worker: a tower of powers must not exhaust the machine
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


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    deadline: float
    pair: Pair | None = None  # None until it is ready
    graded: int = 0  # pairs it has given a verdict on


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
    from math_verify import verify
    from sympy import Expr, N

    if unit is not None:
        boxed, truth = _without_unit(boxed, unit), _without_unit(truth, unit)
    gold, target = _parsed(truth, unit is None), _parsed(boxed, unit is None)
    if not gold:
        return UNSCORABLE
    if verify(gold, target, timeout_seconds=None, raise_on_error=True):
        written, distinct = _elements(gold)
        return WRONG if distinct < written != _elements(target)[0] else RIGHT
    if tolerance is None or not target or not all(isinstance(side[0], Expr) for side in (gold, target)):
        return WRONG
    difference = N(abs(target[0] - gold[0]))
    return RIGHT if difference.is_number and difference.is_real and difference <= 1.01 * tolerance else WRONG


def _serve(connection: Connection, grade: Callable[..., str]) -> None:
    """Worker: answer each received pair with its verdict until the other end closes; an exception ends the process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the grading process ends its workers
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    importlib.import_module("math_verify")
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off
    connection.send(_READY)
    silence = os.open(os.devnull, os.O_WRONLY)  # a traceback can be a megabyte; the parent prints which pair it was
    os.dup2(silence, sys.stdout.fileno())
    os.dup2(silence, sys.stderr.fileno())
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        connection.send(grade(*pair))


def _start_worker(grade: Callable[..., str]) -> _Worker:
    """Start a worker. Forked from a server that has imported math-verify: a replacement takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["math_verify"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, grade), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, time.monotonic() + _START_LIMIT_S)


def _stop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


def _receive(worker: _Worker) -> str | None:
    """The worker's message, or None when it has died."""
    try:
        return worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return None


def _give_up(worker: _Worker, why: str) -> Pair:
    """The worker's pair, after printing that it is unscorable; RuntimeError if the worker never started."""
    if worker.pair is None:
        raise RuntimeError(
            "a grading worker did not start: its traceback is above in this log; check that `python -c "
            "'import math_verify'` works in this environment (pip install -r requirements.txt) within "
            f"{_START_LIMIT_S:.0f} s and {_MEMORY_LIMIT_BYTES >> 30} GiB of address space"
        )
    boxed, truth = (f"{ascii(text):.{_SHOWN_CHARACTERS}}" for text in worker.pair[:2])
    print(f"unscorable, {why}: answer {boxed}, truth {truth}", file=sys.stderr)
    return worker.pair


def _grade_pairs(grade: Callable[..., str], pairs: list[Pair], workers: int, time_limit_s: float) -> dict[Pair, str]:
    """Verdict of every distinct pair: what `grade` returned, or "unscorable" (killed at the limit, died or raised).

    If a worker dies that has graded others, its pair is graded again by a fresh worker, so that the verdict depends on
    the pair alone.
    """
    pending = deque(dict.fromkeys(pairs))
    verdicts: dict[Pair, str] = {}
    active = [_start_worker(grade) for _ in range(min(workers, len(pending)))]
    try:
        while active:
            timeout = max(0.0, min(worker.deadline for worker in active) - time.monotonic())
            reported = wait([worker.connection for worker in active], timeout)
            for worker in list(active):
                has_reported = worker.connection in reported
                if not has_reported and time.monotonic() < worker.deadline:
                    continue
                reply = _receive(worker) if has_reported else None
                if reply is None and has_reported and worker.graded and worker.pair is not None:
                    pending.appendleft(worker.pair)
                elif reply is None:
                    fault = "its worker raised or died" if has_reported else f"stopped at {time_limit_s:g} s"
                    verdicts[_give_up(worker, fault)] = UNSCORABLE
                elif worker.pair is not None:
                    verdicts[worker.pair] = reply
                    worker.graded += 1
                if reply is None or not pending:
                    active.remove(worker)
                    _stop(worker)
                    if pending:
                        active.append(_start_worker(grade))
                    continue
                worker.pair = pending.popleft()
                worker.deadline = time.monotonic() + time_limit_s
                with suppress(BrokenPipeError, ConnectionResetError):  # died since: the next round sees it
                    worker.connection.send(worker.pair)
    finally:
        for worker in active:
            _stop(worker)
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
