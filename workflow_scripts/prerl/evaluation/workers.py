"""Spread tasks over the GPUs of a job: one fresh process per GPU, each takes the next task when it is free."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from prerl.core.errors import UserError
from prerl.core.killable import die_with_parent

T = TypeVar("T")


class WorkerError(UserError):
    """A worker's message, or that it was killed; finished tasks stay done."""


def visible_gpus() -> list[str]:
    """The GPUs of this process as CUDA_VISIBLE_DEVICES names them; empty without a GPU."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def worker_environments(processes: int | None = None) -> list[dict[str, str]]:
    """The environment of each worker: one per visible GPU, or `processes` of them, which share GPUs and threads."""
    gpus = visible_gpus()
    processes = processes or max(1, len(gpus))
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS", "1")) // processes)
    return [
        {"OMP_NUM_THREADS": str(threads)} | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})
        for i in range(processes)
    ]


def run_on_workers(tasks: Iterable[T], work: Callable[[T], None], environments: list[dict[str, str]]) -> None:
    """work(task) for every task, in one process for each of `environments` (variables to add), in order.

    One environment: in this process. `work` and the tasks are pickled; each process keeps its copy of `work` from
    task to task. Raises WorkerError with the message of the first worker that fails; the others are killed.
    """
    pending = deque(tasks)
    if len(environments) < 2 or len(pending) < 2:
        for task in pending:
            work(task)
        return
    workers: dict[Connection, BaseProcess] = {}
    try:
        for environment in environments[: len(pending)]:
            connection, process = _start(work, environment)
            workers[connection] = process
        while workers:
            for connection in [connection for connection in wait(list(workers)) if isinstance(connection, Connection)]:
                _answer(connection, workers[connection])
                if pending:
                    connection.send(pending.popleft())
                else:
                    _stop(workers.pop(connection))
    finally:
        for process in workers.values():
            _stop(process)


def _start(work: Callable, environment: dict[str, str]) -> tuple[Connection, BaseProcess]:
    """A spawned process: it inherits neither CUDA nor threads."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    before = dict(os.environ)
    os.environ.update(environment)  # read when the child imports torch, before our code runs there
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    theirs.close()
    return ours, process


def _stop(process: BaseProcess) -> None:
    """Everything a worker has finished is on disk: it may be killed."""
    process.kill()
    process.join()


def _answer(connection: Connection, process: BaseProcess) -> None:
    """Take a worker's report that it is free. Raises WorkerError if it failed or died."""
    try:
        fault = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        fault = f"a worker ended with code {process.exitcode}: its output is above in this log"
    if fault is not None:
        raise WorkerError(fault)


def _serve(connection: Connection, work: Callable[[T], None]) -> None:
    """Worker: report that it is free and do the next task, until the other end closes."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends its workers
    connection.send(None)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            work(task)
        except UserError as error:
            connection.send(str(error))
            return
        connection.send(None)
