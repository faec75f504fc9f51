"""Generated programs: hostile ones have failed, within the limits, and have changed nothing outside."""

import socket
import subprocess
import time
from pathlib import Path

import pytest

from prerl.evaluation.sandbox import FILES, PROCESSES, Limits, Outcome, run_program

LIMITS = Limits(cpu_s=1, memory_mib=512)
DATA_TEST = """
values = [None, True, 1, -2.5, 1 + 2j, 'a', b'\\x00\\xff', [1, [2]], (1, (2,)), {1, 2}, frozenset({3})]
values.append({'a': {(1, 2): None}})
result = same(*values)
assert type(result) is tuple and list(result) == values
assert [type(value) for value in result] == [type(value) for value in values]
"""
RAISES_TEST = """
try:
    f(1)
except ValueError:
    pass
else:
    assert False
"""
FORGED = '[true, "passed"]'  # the judge's verdict
# Programs with a wrong f, by how they try to pass
CHEATS = {
    "frame": f"""
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if hasattr(value, "write"):
                value.write({FORGED!r} + chr(10)); value.flush()
        frame = frame.f_back
    return 5
f(2)
""",
    "objects": f"""
import gc, os
for thing in gc.get_objects():
    if isinstance(thing, dict) and "nonce" in thing:
        print(thing["nonce"], "passed")
    if hasattr(thing, "fileno"):
        thing.write({FORGED!r} + chr(10)); thing.flush()
os._exit(0)
""",
    "descriptors": f"""
import os
for descriptor in range(64):
    try:
        os.write(descriptor, b{FORGED!r} + b"\\n")
    except OSError:
        pass
def f(x):
    return 5
""",
    "reply in advance": """
import json, os
def f(x):
    for descriptor in range(64):
        try:
            os.write(descriptor, json.dumps({"value": True}).encode() + b"\\n")
        except OSError:
            pass
    return 5
""",
    "other processes": f"""
import glob
for path in glob.glob("/proc/[0-9]*/fd/*") + glob.glob("/proc/[0-9]*/mem"):
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(b{FORGED!r} + b"\\n")
    except OSError:
        pass
def f(x):
    return 5
""",
    "always equal": """
class Any(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
    def __abs__(self): return self
def f(x):
    return Any(5)
""",
    "no plain data": "class Any:\n    def __eq__(self, other): return True\ndef f(x):\n    return Any()",
    "builtins": "import builtins\nabs = builtins.abs = lambda x: 4\ndef f(x):\n    return 5",
    "own check": "def check(f):\n    pass\ndef f(x):\n    return 5",
    "exit": "import os\ndef f(x):\n    os._exit(0)",
    "system exit": "def f(x):\n    raise SystemExit(0)",
    "a type named passed": "def f(x):\n    raise type('passed', (Exception,), {})",
    "exit of the judge": "def f(x):\n    raise type('SystemExit', (Exception,), {})(0)",
    "closed pipe": "import os\ndef f(x):\n    os.closerange(3, 64)",
    "recursion": "def f(x):\n    return f(x)",
    "no answer": "import time\ndef f(x):\n    time.sleep(60)",
    "endless answer": "import os\ndef f(x):\n    while True: os.write(4, b'[' * 65536)",
    "trace": """
import sys
def f(x):
    return 5
sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)
import json
json.dumps = lambda *a, **k: '{"value": true}'
""",
    "at exit": "import atexit\natexit.register(print, 'passed')\ndef f(x):\n    return 5",
}
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
    assert run_program(program, "", LIMITS).passed


@pytest.mark.parametrize(
    ("program", "test"),
    [
        (
            "def add(a, b=1):\n    return a + b",
            "def check(add):\n    assert add(2) == 3 and add(2, b=3) == 5\ncheck(add)",
        ),
        ("def same(*values):\n    return values", DATA_TEST),
        ("def double(x):\n    return 2 * x\ndef half(x):\n    return x // 2", "assert half(double(7)) == 7"),
        ("import math\nLIMIT = (1, {2})", "import math\nassert LIMIT == (1, {2}) and math.pi > 3"),
        ("class Count(dict):\n    pass\ndef f():\n    return Count(a=1)", "assert f() == {'a': 1}"),
        ("def f(x):\n    raise ValueError(x)", RAISES_TEST),
        (
            "calls = 0\ndef f():\n    global calls\n    calls += 1\n    return calls",
            "assert [f(), f(), f()] == [1, 2, 3]",
        ),
        (
            "def f():\n    return 10**4000, float('inf'), 'ü\\ud800\\n'",
            "assert f() == (10**4000, 1e999, 'ü\\ud800\\n')",
        ),
    ],
)
def test_a_test_calls_the_programs_functions_with_plain_data(program, test):
    assert run_program(program, test, LIMITS) == Outcome(True, "passed", (FILES, PROCESSES))


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_program_cannot_pass_for_its_test(cheat):
    """Whatever it reads or overwrites in its interpreter, prints, returns, leaves behind or ends with."""
    assert not run_program(CHEATS[cheat], "def check(f):\n    assert abs(f(2)) == 4, 'wrong'\ncheck(f)", LIMITS).passed


def test_the_same_test_passes_an_honest_program():
    assert run_program(
        "def f(x):\n    return x * x", "def check(f):\n    assert abs(f(2)) == 4\ncheck(f)", LIMITS
    ).passed


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("assert f(1) == 2", "AssertionError"),
        ("def f(:", "SyntaxError"),
        ("g()", "NameError"),
        ("f(lambda: 0)", "TypeError"),  # no plain data
        ("f()", "TypeError"),
        ("while True: pass", "killed by signal 9"),
        ("import os\nos.fork()", "BlockingIOError"),
        ("open('x', 'w')", "PermissionError"),
    ],
)
def test_a_test_that_fails_fails_and_is_confined_too(test, reason):
    assert run_program("def f(x):\n    return x", test, LIMITS) == Outcome(False, reason, (FILES, PROCESSES))


def test_the_kernel_here_closes_processes_network_and_files():
    assert set(run_program("", "", LIMITS).closed) == {
        PROCESSES,
        FILES,
    }  # Linux on x86-64 with Landlock, as in the README


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
    outcome = run_program(program, "", LIMITS)
    assert not outcome.passed
    assert outcome.reason == reason
    assert time.monotonic() - started < 5


def test_a_program_that_waits_is_ended(monkeypatch):
    monkeypatch.setattr("prerl.evaluation.sandbox.START_S", 1.0)
    started = time.monotonic()
    assert run_program("import time\ntime.sleep(60)", "", LIMITS).reason == "killed by signal 9"
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
    assert not run_program(change.format(path=str(file)), "", LIMITS).passed
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "kept"
    assert (file.stat().st_mode, file.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_no_token_is_in_sight(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert run_program("import os\nassert 'HF_TOKEN' not in os.environ", "", LIMITS).passed


def test_a_listening_socket_is_not_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))"
        assert run_program(program, "", LIMITS).reason == "PermissionError"
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
    assert run_program("", "", LIMITS).closed == ()
    assert run_program("open('big', 'wb').write(bytes(10**8))", "", LIMITS).reason == "OSError"
    assert run_program("x = bytearray(10**10)", "", LIMITS).reason == "MemoryError"
    assert run_program("while True: pass", "", LIMITS).reason == "killed by signal 9"
    child = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(1)"
    assert run_program(child, "", LIMITS).reason == "left with status 1"
    found = subprocess.run(["pgrep", "--full", str(bare)], stdout=subprocess.PIPE, text=True)
    assert found.stdout == ""
