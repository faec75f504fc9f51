"""Generated programs: hostile ones have failed, within the limits, and have changed nothing outside."""

import socket
import subprocess
import time
from pathlib import Path

import pytest

from prerl.evaluation.sandbox import FILES, PROCESSES, Limits, run_program

LIMITS = Limits(cpu_s=1, memory_mib=512)
FORK_BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"


@pytest.mark.parametrize(
    "program",
    [
        "assert sorted([3, 1, 2]) == [1, 2, 3]",
        "import collections, math, re, threading\nt = threading.Thread(target=print, args=(1,))\nt.start()\nt.join()",
        "import sys\nprint('x' * 10**6)\nsys.stdin.read()",
    ],
)
def test_an_honest_program_passes(program):
    assert run_program(program, LIMITS).passed


def test_the_kernel_here_closes_processes_network_and_files():
    assert set(run_program("", LIMITS).closed) == {PROCESSES, FILES}  # Linux on x86-64 with Landlock, as in the README


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert False", "AssertionError"),
        ("def f(:", "SyntaxError"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("import os\nos._exit(0)", "left with status 0"),
        ("while True: pass", "killed by signal 9"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "killed by signal 9"),
        ("x = bytearray(10**10)", "MemoryError"),
        ("import os\nos.fork()", "BlockingIOError"),
        ("import subprocess\nsubprocess.run(['true'])", "BlockingIOError"),
        ("import os\nos.execv('/bin/true', ['true'])", "PermissionError"),
        ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()", "RuntimeError"),
        ("import socket\nsocket.socket()", "PermissionError"),
        ("open('big', 'wb').write(bytes(10**9))", "PermissionError"),
        ("import os\nos.kill(os.getppid(), 9)", "ProcessLookupError"),
        ("import os\nos.kill(-1, 9)", "ProcessLookupError"),
        (FORK_BOMB, "killed by signal 9"),
    ],
)
def test_a_hostile_program_has_failed(program, reason):
    started = time.monotonic()
    outcome = run_program(program, LIMITS)
    assert not outcome.passed
    assert outcome.reason == reason
    assert time.monotonic() - started < 5


def test_a_program_that_waits_is_ended(monkeypatch):
    monkeypatch.setattr("prerl.evaluation.sandbox.START_S", 1.0)
    started = time.monotonic()
    assert run_program("import time\ntime.sleep(60)", LIMITS).reason == "killed by signal 9"
    assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    "change",
    [
        "open({path!r}, 'a').write('x')",
        "import os\nos.remove({path!r})",
        "import os\nos.truncate({path!r}, 0)",
        "import os\nos.rename({path!r}, {path!r} + '2')",
        "import os\nos.chmod({path!r}, 0)",
        "import os\nos.utime({path!r}, (0, 0))",
        "import os\nos.link({path!r}, {path!r} + '2')",
        "import os\nos.mkdir({path!r} + '2')",
    ],
)
def test_files_of_others_stay_as_they_are(tmp_path, change):
    file = tmp_path / "mine"
    file.write_text("kept")
    before = file.stat()
    assert not run_program(change.format(path=str(file)), LIMITS).passed
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "kept"
    assert (file.stat().st_mode, file.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_no_token_is_in_sight(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert run_program("import os\nassert 'HF_TOKEN' not in os.environ", LIMITS).passed


def test_a_listening_socket_is_not_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"
        assert run_program(program, LIMITS).reason == "PermissionError"
        with pytest.raises(TimeoutError):
            server.accept()


def test_without_seccomp_and_landlock_the_limits_still_hold(tmp_path, monkeypatch):
    source = Path(run_program.__code__.co_filename).read_text()
    bare = tmp_path / "sandbox.py"  # a kernel that refuses both
    bare.write_text(
        source.replace("if platform.machine()", "return False\n    if platform.machine()").replace(
            "    create_ruleset, restrict_self", "    return False\n    create_ruleset, restrict_self"
        )
    )
    monkeypatch.setattr("prerl.evaluation.sandbox.__file__", str(bare))
    assert run_program("", LIMITS).closed == ()
    assert run_program("open('big', 'wb').write(bytes(10**8))", LIMITS).reason == "OSError"
    assert run_program("x = bytearray(10**10)", LIMITS).reason == "MemoryError"
    assert run_program("while True: pass", LIMITS).reason == "killed by signal 9"
    child = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(1)"
    assert run_program(child, LIMITS).reason == "left with status 1"
    found = subprocess.run(["pgrep", "--full", str(bare)], stdout=subprocess.PIPE, text=True)
    assert found.stdout == ""
