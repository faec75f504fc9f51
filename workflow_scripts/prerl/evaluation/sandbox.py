"""Run a program that a model wrote in a child process that can reach and change nothing outside itself.

The parent starts this file as a script (`python -I`, no environment, an empty folder). The child limits itself, then
runs the program:

- limits (setrlimit, always): CPU time, memory, file size, open files, core dumps; the parent adds a wall-clock limit;
- seccomp (Linux on x86-64): no new process, no other program, no socket, no signal to another process;
- Landlock (Linux 5.13 or later): no file can be written, made, renamed or removed.

What the kernel cannot close is missing from `Outcome.closed`, which the caller logs. Imports the standard library
only: the child has nothing else on its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import resource
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass

START_S = 5.0  # for the interpreter to start; a program that only waits may take this much longer
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
    """Whether the program ran to its end, otherwise why not; what the kernel closed to it (PROCESSES, FILES)."""

    passed: bool
    reason: str
    closed: tuple[str, ...]


def run_program(program: str, limits: Limits) -> Outcome:
    """Run Python source in a child process. Whatever it does, the answer comes after at most
    cpu_s + START_S seconds; printed text is thrown away."""
    nonce = secrets.token_hex(16)  # so that a program that merely exits does not pass
    job = json.dumps({"program": program, "limits": asdict(limits), "nonce": nonce}).encode()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as answer:
        child = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"OMP_NUM_THREADS": "1"},  # no token, no path of the user
            start_new_session=True,
        )
        try:
            child.communicate(job, timeout=limits.cpu_s + START_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it started, where seccomp did not refuse that
        answer.seek(0)
        lines = answer.read(10_000).decode(errors="replace").splitlines()
    return _outcome(lines, nonce, child.returncode)


def _outcome(lines: list[str], nonce: str, code: int) -> Outcome:
    if not lines:
        raise RuntimeError(f"the child that runs generated code did not start (exit status {code})")
    closed = tuple(json.loads(lines[0]))
    if lines[-1] == f"{nonce} passed":
        return Outcome(True, "passed", closed)
    if lines[-1].startswith(nonce):
        return Outcome(False, lines[-1].removeprefix(nonce).strip(), closed)
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


def main() -> None:
    """Read the job from stdin, limit this process, run the program, report the outcome on what was stdout."""
    job = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set_limits(job["limits"])
    closed = [FILES] if _close_files(libc) else []
    closed += [PROCESSES] if _close_processes(libc) else []
    print(json.dumps(closed), file=answer, flush=True)
    try:
        program = compile(job["program"], "program", "exec")
        exec(program, {"__name__": "program"})
    finally:
        error = sys.exception()  # of any kind, SystemExit included
        print(job["nonce"], type(error).__name__ if error else "passed", file=answer, flush=True)
        os._exit(0)  # no traceback, and its threads may still run


if __name__ == "__main__":
    main()
