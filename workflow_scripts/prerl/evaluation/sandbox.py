"""Run a program that a model wrote, and judge it by a test, in child processes that can change nothing outside.

The program and its test have a process each (this file as a script: `python -I`, no environment, an empty folder). The
program's process runs the program, then answers calls of its functions; the test's process sees it only through these
calls, which carry plain data, and alone tells the parent the verdict. So nothing that a program finds or overwrites in
its interpreter can pass for it. Before they run anything, both close to themselves:

- limits (setrlimit, always): CPU time, memory, file size, open files, core dumps; the parent adds a wall-clock limit;
- seccomp (Linux on x86-64): no new process, no other program, no socket, no signal to another process;
- Landlock (Linux 5.13 or later): no file can be written, made, renamed or removed, no other process looked into.

What the kernel cannot close is missing from `Outcome.closed`, which the caller logs. Imports the standard library
only: the children have nothing else on their path.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import json
import operator
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from types import CodeType
from typing import Any, TextIO

START_S = 5.0  # for the interpreters to start; a program that only waits may take this much longer
PROGRAM_ENDED = 3  # exit status of the judge if the program left without an answer
PROCESSES, FILES = "processes, network, signals", "files"
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h


@dataclass(frozen=True)
class Limits:
    """cpu_s: the official HumanEval allows 3 s a program; threads: of this user, where the job does not run as root."""

    cpu_s: int = 3
    memory_mib: int = 1024
    file_mib: int = 1
    open_files: int = 64
    threads: int = 4096


@dataclass(frozen=True)
class Outcome:
    """Whether program and test ran to their end, otherwise why not; what the kernel closed to the program (PROCESSES,
    FILES)."""

    passed: bool
    reason: str
    closed: tuple[str, ...]


def run_program(program: str, test: str, limits: Limits) -> Outcome:
    """Run Python source, then a test that may call the functions it defines with plain data and get plain data.

    Whatever they do, the answer comes after at most cpu_s + START_S seconds; printed text is thrown away. The test has
    the program's functions and plain values under the names that it uses and Python itself does not have.
    """
    bounds = json.dumps(asdict(limits))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as answer:
        ends = [*os.pipe(), *os.pipe()]
        requests_in, requests_out, replies_in, replies_out = ends
        try:
            runner = _start(["run", bounds], folder, stdin=requests_in, stdout=replies_out)
            pipes = [str(requests_out), str(replies_in)]
            judge = _start(["judge", bounds, *pipes], folder, stdin=subprocess.PIPE, stdout=answer, pass_fds=ends[1:3])
        finally:
            for end in ends:
                os.close(end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            judge.communicate(json.dumps([program, test]).encode(), timeout=limits.cpu_s + START_S)
            if judge.returncode == PROGRAM_ENDED:
                runner.wait(timeout=START_S)
        code = judge.returncode or PROGRAM_ENDED  # None if time is up
        for child in (judge, runner):
            child.kill()
            child.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it started, where seccomp did not refuse that
        answer.seek(0)
        lines = [json.loads(line) for line in answer.read().splitlines()]
    return _outcome(lines, runner.returncode if code == PROGRAM_ENDED else code)


def _start(arguments: list[str], folder: str, **descriptors: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-I", __file__, *arguments],
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={"OMP_NUM_THREADS": "1"},  # no token, no path of the user
        start_new_session=True,
        **descriptors,
    )


def _outcome(lines: list, code: int) -> Outcome:
    """From the judge's two lines: what is closed, and [passed, reason], of which the second may be missing."""
    if not lines:
        raise RuntimeError(f"the processes that run generated code did not start (exit status {code})")
    closed = tuple(lines[0])
    if len(lines) == 2:
        passed, reason = lines[1]
        return Outcome(passed, reason, closed)
    return Outcome(False, f"killed by signal {-code}" if code < 0 else f"left with status {code}", closed)


# --------------------------------------------------------------------------- in the child


def _set_limits(limits: dict) -> None:
    mib = 1 << 20
    used_s = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    for kind, value in (
        (resource.RLIMIT_CPU, used_s + limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_mib"] * mib),
        (resource.RLIMIT_FSIZE, limits["file_mib"] * mib),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["threads"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, value)  # struct sock_filter, linux/filter.h


def _seccomp_program() -> bytes:
    """Classic BPF over struct seccomp_data (syscall number at 0, architecture at 4, first argument at 16)."""
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_*; refuse + errno
    x86_64, x32, clone, clone3, clone_thread = 0xC000003E, 0x40000000, 56, 435, 0x10000
    refused = {
        errno.EPERM: [57, 58, 59, 322, 101, 311]  # fork vfork execve execveat ptrace process_vm_writev
        + [90, 91, 268, 452, 92, 93, 94, 260]  # chmod and chown in all forms, which Landlock leaves open,
        + [132, 235, 261, 280, 188, 189, 190, 197, 198, 199],  # as it does times and extended attributes
        errno.EACCES: [41, 53, 425],  # socket socketpair io_uring_setup
        errno.ESRCH: [62, 200, 234, 129, 297, 424],  # kill tkill tgkill rt_(tg)sigqueueinfo pidfd_send_signal
        errno.ENOSYS: [clone3],  # its flags lie in memory, where a filter cannot look; libc then uses clone
    }
    steps = [
        _instruction(load, 0, 0, 4),
        _instruction(equal, 1, 0, x86_64),
        _instruction(leave, 0, 0, kill),
        _instruction(load, 0, 0, 0),
        _instruction(at_least, 0, 1, x32),
        _instruction(leave, 0, 0, kill),
    ]
    for error, numbers in refused.items():
        for number in numbers:
            steps += [_instruction(equal, 0, 1, number), _instruction(leave, 0, 0, refuse | error)]
    steps += [
        _instruction(equal, 0, 3, clone),  # a thread may start, a process may not
        _instruction(load, 0, 0, 16),
        _instruction(any_bit, 1, 0, clone_thread),
        _instruction(leave, 0, 0, refuse | errno.EAGAIN),
        _instruction(leave, 0, 0, allow),
    ]
    return b"".join(steps)


def _close_processes(libc: ctypes.CDLL) -> bool:
    """Load the filter; False if the kernel or the processor has none."""
    if platform.machine() != "x86_64":
        return False
    program = ctypes.create_string_buffer(_seccomp_program())
    length = (len(program) - 1) // 8
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", length, ctypes.addressof(program)))
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0


def _close_files(libc: ctypes.CDLL) -> bool:
    """No right to change any file, by an empty Landlock rule set; False if the kernel has none."""
    create_ruleset, restrict_self = 444, 446  # the same numbers on every architecture
    version = libc.syscall(create_ruleset, None, 0, 1)
    if version < 1:
        return False
    writing = sum(1 << bit for bit in (1, *range(4, 13)))  # write_file, remove_*, make_*
    writing |= (version >= 2) << 13 | (version >= 3) << 14  # refer (link and rename), truncate
    rules = ctypes.create_string_buffer(struct.pack("Q", writing))
    handle = libc.syscall(create_ruleset, rules, 8, 0)
    return handle >= 0 and libc.syscall(restrict_self, handle, 0) == 0


def _confine(limits: dict) -> list[str]:
    """Limit this process and take its standard descriptors away; what the kernel closed."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set_limits(limits)
    closed = [FILES] if _close_files(libc) else []
    return closed + ([PROCESSES] if _close_processes(libc) else [])


_CONTAINERS: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, dict)}


def _encode(value: Any) -> Any:
    """Plain data as JSON holds it: {"tuple": [1, {"list": []}]}. Raises TypeError for any other object."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [_encode(item) for item in value.items()]}
    for name, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return {name: [_encode(item) for item in value]}
    return operator.index(value)  # numpy's integers; TypeError if it is none


def _decode(value: Any) -> Any:
    """What `_encode` was given: plain data and nothing else, whatever the other side sent."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "complex":
        return complex(*content)
    if kind == "bytes":
        return bytes.fromhex(content)
    return _CONTAINERS[kind](map(_decode, content))


def _send(stream: TextIO, message: Any) -> None:
    print(json.dumps(message), file=stream, flush=True)


def run() -> None:
    """The program's process: run the program that the first request holds, then its functions as they are called."""
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.register_at_fork(after_in_child=lambda: os.close(replies.fileno()))  # or its end would not be noticed
    _send(replies, _confine(json.loads(sys.argv[2])))
    space: dict[str, Any] = {"__name__": "program"}

    def start(program: str, names: list[str]) -> dict[str, Any]:
        exec(compile(program, "program", "exec"), space)
        found: dict[str, Any] = {"functions": [], "values": {}}
        for name in set(names) & set(space):
            if callable(space[name]):
                found["functions"].append(name)
            else:
                with contextlib.suppress(TypeError):  # no plain data, such as a module
                    _encode(space[name])
                    found["values"][name] = space[name]
        return found

    def call(name: str, arguments: tuple, keywords: dict[str, Any]) -> Any:
        return space[name](*arguments, **keywords)

    work: Callable = start
    for line in requests:
        try:
            message = json.dumps({"value": _encode(work(*_decode(json.loads(line))))})
        except BaseException as error:  # noqa: BLE001 - of any kind, SystemExit included; the test gets it
            message = json.dumps({"raised": type(error).__name__})
        print(message, file=replies, flush=True)
        work = call
    os._exit(0)  # its threads may still run


class _Program:
    """The program, as its test may use it: through calls."""

    def __init__(self, requests: TextIO, replies: TextIO) -> None:
        self.requests, self.replies = requests, replies

    def receive(self) -> Any:
        """What the program's process says next."""
        line = self.replies.readline()
        if not line:
            os._exit(PROGRAM_ENDED)  # at once: a test might catch an exception
        return json.loads(line)

    def ask(self, *request: Any) -> Any:
        """The value that the program has for a request. Raises an exception of the type that the program raised."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `receive` will see
            _send(self.requests, _encode(request))
        reply = self.receive()
        if "raised" not in reply:
            return _decode(reply["value"])
        name = str(reply["raised"])
        kind = getattr(builtins, name, None)
        base = kind if isinstance(kind, type) and issubclass(kind, BaseException) else Exception
        raise type(name, (base,), {"__init__": lambda self: None})()

    def start(self, program: str, names: list[str]) -> dict[str, Any]:
        """Run it; its functions and plain values, of those with one of `names`."""
        found = self.ask(program, names)
        functions = {name: partial(self._call, name) for name in names if name in found["functions"]}
        return functions | {name: found["values"][name] for name in names if name in found["values"]}

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        return self.ask(name, arguments, keywords)


def _names(code: CodeType) -> set[str]:
    """Every global name, and attribute, in a piece of code."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def judge() -> None:
    """The test's process: start the program, run the test, say on what was stdout what is closed and the verdict."""
    source, test = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "w")
    program = _Program(os.fdopen(int(sys.argv[3]), "w"), os.fdopen(int(sys.argv[4])))
    _confine(json.loads(sys.argv[2]))
    _send(answer, program.receive())
    passed, reason = False, "passed"
    try:
        code = compile(test, "test", "exec")
        names = program.start(source, sorted(_names(code) - set(dir(builtins))))
        exec(code, {"__name__": "test"} | names)
        passed = True
    except BaseException as error:  # noqa: BLE001 - as above; it is the verdict
        reason = type(error).__name__
    _send(answer, [passed, reason])
    os._exit(0)


if __name__ == "__main__":
    {"run": run, "judge": judge}[sys.argv[1]]()
