r"""The second grader: math-verify on the content of the last `\boxed{}`, in worker processes that can be killed.

math-verify hands the answer to SymPy, which can run for ever, crash or raise on what a model writes. So each distinct
pair (box, ground truth) goes to a worker process with a time limit. A pair whose worker was killed, died or raised is
"unscorable", and the worker is replaced: no answer changes the verdict of another. math-verify's own limits are off:
they use signals, fail in threads, and turn a timeout into "wrong". Apart from rewards.py, so that an edit here does not
retrain.
"""

import importlib
import logging
import multiprocessing
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

RIGHT, WRONG, UNSCORABLE = "right", "wrong", "unscorable"
_READY = "ready"
_START_LIMIT_S = 300.0  # importing SymPy from a cold network disk takes tens of seconds
_MEMORY_LIMIT_BYTES = 4 << 30  # address space of a worker: a tower of powers must not take the machine's memory

Pair = tuple[str, str]


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    deadline: float
    pair: Pair | None = None  # None until it has said that it is ready


def verify_boxed(boxed: str, truth: str) -> str:
    r"""Verdict of math-verify on the content of a box: "right", "wrong", or "unscorable" if the truth does not parse.

    Strict: LaTeX extraction alone, from `\boxed{boxed}`; no number is fished out of surrounding words. Has no time
    limit and raises what SymPy raises: runs in a worker (`grade_math_verify`), in its main thread.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    gold, target = (
        parse(f"\\boxed{{{text}}}", extraction_config=config, parsing_timeout=None, raise_on_error=True)
        for text in (truth, boxed)
    )
    if not gold:
        return UNSCORABLE
    return RIGHT if verify(gold, target, timeout_seconds=None, raise_on_error=True) else WRONG


def _serve(connection: Connection, grade: Callable[[str, str], str]) -> None:
    """Worker: answer each received pair with its verdict until the other end closes; an exception ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    importlib.import_module("math_verify")
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own limits are off
    connection.send(_READY)
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        connection.send(grade(*pair))


def _start_worker(grade: Callable[[str, str], str]) -> _Worker:
    """Start a worker. A fork of a server that holds math-verify: a replacement takes milliseconds, not an import."""
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


def _grade_pairs(
    grade: Callable[[str, str], str], pairs: list[Pair], workers: int, time_limit_s: float
) -> dict[Pair, str]:
    """Verdict of every distinct pair: what `grade` returned, or "unscorable" (killed at the limit, died or raised)."""
    pending = deque(dict.fromkeys(pairs))
    verdicts: dict[Pair, str] = {}
    active = [_start_worker(grade) for _ in range(min(workers, len(pending)))]
    try:
        while active:
            timeout = max(0.0, min(worker.deadline for worker in active) - time.monotonic())
            reported = wait([worker.connection for worker in active], timeout)
            for worker in list(active):
                if worker.connection in reported:
                    reply = _receive(worker)
                elif time.monotonic() >= worker.deadline:
                    reply = None
                else:
                    continue
                if worker.pair is not None:
                    verdicts[worker.pair] = UNSCORABLE if reply is None else reply
                elif reply is None:
                    raise RuntimeError(
                        "a grading worker did not start: its traceback is above in this log; check that `python -c "
                        "'import math_verify'` works in this environment (pip install -r requirements.txt) within "
                        f"{_START_LIMIT_S:.0f} s and {_MEMORY_LIMIT_BYTES >> 30} GiB of address space"
                    )
                if reply is None or not pending:
                    active.remove(worker)
                    _stop(worker)
                    if pending:
                        active.append(_start_worker(grade))
                    continue
                worker.pair = pending.popleft()
                worker.deadline = time.monotonic() + time_limit_s
                worker.connection.send(worker.pair)
    finally:
        for worker in active:
            _stop(worker)
    return verdicts


def grade_math_verify(pairs: list[tuple[str | None, str]], workers: int, time_limit_s: float) -> list[str]:
    r"""Grade (content of the last box or None, ground truth) pairs; returns "right", "wrong" or "unscorable" for each.

    Nothing boxed is wrong. Identical pairs are graded once. A pair that takes longer than `time_limit_s` (wall clock),
    or whose worker dies or raises, is unscorable; a traceback goes to stderr.

    Raises:
        ValueError: `workers` below 1 or a time limit that is not positive.
        RuntimeError: a worker could not start (math-verify missing), which is no verdict on an answer.
    """
    if workers < 1 or not time_limit_s > 0:
        raise ValueError(
            f"workers {workers}, time_limit_s {time_limit_s}: set at least 1 worker and a positive number of seconds"
        )
    boxed_pairs = [(boxed, truth) for boxed, truth in pairs if boxed is not None]
    verdicts = _grade_pairs(verify_boxed, boxed_pairs, workers, time_limit_s)
    return [WRONG if boxed is None else verdicts[boxed, truth] for boxed, truth in pairs]
