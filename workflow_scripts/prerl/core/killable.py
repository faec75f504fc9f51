"""Functions that may hang, crash or raise, called in worker processes that can be killed.

A task whose function raised, whose worker died or which took too long gets a `Failed` and the worker is replaced: no
task affects the result of another. Standard library only: a worker imports what its function needs, and the script
that was started once more, so such a script has its heavy imports inside main().
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

START_LIMIT_S = 300.0  # importing SymPy from a cold network disk takes tens of seconds
MEMORY_LIMIT_BYTES = 4 << 30  # address space of a worker: a tower of powers must not exhaust the machine
_SHOWN_CHARACTERS = 2000  # of what a function raised: its message can be a megabyte
_READY, _RESULT, _RAISED = "ready", "result", "raised"


@dataclass(frozen=True)
class Failed:
    """A task without a result. why: "raised ValueError: …", "stopped at 5 s" or "its process died"."""

    why: str


class NotStarted(Exception):
    """A worker could not start; the message says why, or that its output is above."""


def die_with_parent() -> None:
    """Have the kernel end this worker when its parent is gone, whatever ended the parent.

    The pipe whose other end only the parent holds sends SIGIO when it closes. No thread could do this: a worker may be
    in a call that holds the interpreter for hours. Nor PR_SET_PDEATHSIG: the parent may be a fork server there.
    """
    process = multiprocessing.parent_process()
    assert process is not None, "called in a worker"
    parent = process.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(parent, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent, fcntl.F_SETFL, fcntl.fcntl(parent, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([parent], 0):  # gone before
        raise SystemExit("the parent process has ended")


class _Telling:
    """Sends an exception to the parent, which ends the worker there."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        where = traceback.extract_tb(trace)[-1]
        said = " ".join("".join(traceback.format_exception_only(error))[:_SHOWN_CHARACTERS].split())
        self.connection.send((_RAISED, f"raised {said} ({os.path.basename(where.filename)}, line {where.lineno})"))
        return True


def _serve(connection: Connection, load: Callable[[], Callable]) -> None:
    """Worker: answer each received task with the function's result until the other end closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends its workers
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with _Telling(connection):
        function = load()
        connection.send((_READY, None))
        while True:
            try:
                task = connection.recv()
            except EOFError:
                return
            connection.send((_RESULT, function(*task)))


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    deadline: float
    ready: bool = False
    task: int | None = None  # number of the task that it works on
    served: int = 0  # tasks that it gave a result for

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def receive(self) -> tuple[str, object] | None:
        """The worker's message, or None when it has died."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None


class Pool:
    """Up to `size` workers for one function, started when they are needed and kept until `close`.

    load: called once in a worker, gives the function; pickled, as are tasks and results. time_limit_s: per task, wall
    clock. preload: modules that the workers share; forked from a process that has them, a replacement takes
    milliseconds.
    """

    def __init__(
        self, load: Callable[[], Callable], size: int, time_limit_s: float, preload: Sequence[str] = ()
    ) -> None:
        self.load, self.size, self.time_limit_s, self.preload = load, size, time_limit_s, list(preload)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers."""
        while self._workers:
            self._workers.pop().stop()

    def run(self, tasks: Sequence[tuple]) -> list:
        """The result of each task (arguments of the function), or Failed. Raises NotStarted.

        If a worker dies or raises that has served others, its task is given to a fresh one, so that the result depends
        on the task alone.
        """
        results: list = [None] * len(tasks)
        pending = deque(range(len(tasks)))
        try:
            while True:
                busy = sum(worker.task is not None for worker in self._workers)
                if not pending and not busy:
                    return results
                for _ in range(min(self.size, busy + len(pending)) - len(self._workers)):
                    self._workers.append(self._start())
                for worker in self._workers:
                    if worker.ready and worker.task is None and pending:
                        self._give(worker, pending.popleft(), tasks)
                self._collect(results, pending)
        except BaseException:
            self.close()
            raise

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(self.preload)
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.load), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic() + START_LIMIT_S)

    def _give(self, worker: _Worker, number: int, tasks: Sequence[tuple]) -> None:
        worker.task, worker.deadline = number, time.monotonic() + self.time_limit_s
        with suppress(BrokenPipeError, ConnectionResetError):  # died since: the next round sees it
            worker.connection.send(tasks[number])

    def _collect(self, results: list, pending: deque[int]) -> None:
        """Wait for a message or a deadline; take what came, and replace workers that died or took too long."""
        waited = [worker for worker in self._workers if worker.task is not None or not worker.ready]
        timeout = max(0.0, min(worker.deadline for worker in waited) - time.monotonic())
        reported = wait([worker.connection for worker in waited], timeout)
        for worker in waited:
            if worker.connection not in reported:
                if time.monotonic() >= worker.deadline:
                    self._lose(worker, f"stopped at {self.time_limit_s:g} s", results)
                continue
            message = worker.receive()
            failed = message is None or message[0] == _RAISED
            if failed and worker.served and worker.task is not None:
                pending.appendleft(worker.task)
                worker.stop()
                self._workers.remove(worker)
            elif message is None or message[0] == _RAISED:
                self._lose(worker, "its process died" if message is None else str(message[1]), results)
            elif message[0] == _READY:
                worker.ready = True
            elif worker.task is not None:
                results[worker.task] = message[1]
                worker.task, worker.served = None, worker.served + 1

    def _lose(self, worker: _Worker, why: str, results: list) -> None:
        """Remove a worker, whose task has failed. Raises NotStarted if it had not even started."""
        worker.stop()
        self._workers.remove(worker)
        if not worker.ready:
            raise NotStarted(why if why.startswith("raised") else f"not ready within {START_LIMIT_S:.0f} s, or died")
        if worker.task is not None:
            results[worker.task] = Failed(why)
