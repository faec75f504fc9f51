"""Hostile answers never hang, crash, run, or change the verdict of another answer; workers die with their job."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from hostile import BOXES, TEXTS
from prerl.evaluation.grading import grade_math_verify
from prerl.rollouts.rewards import hendrycks_reward, is_equiv, last_boxed

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[3] / "workflow_scripts"
LIMIT_S = 3.0
ENDLESS = {"tower of powers", "factorial of a factorial", "long sum", "5,000 nested parentheses"}
ORDINARY = [
    (answer, truth)
    for i in range(2, 22)
    for truth in (str(i), rf"\frac{{{i}}}{{23}}", rf"{i}\sqrt{{29}}")
    for answer in (str(i), rf"\dfrac{{{2 * i}}}{{46}}", rf"\sqrt{{{29 * i * i}}}", rf"[{i}, {i + 1}]", rf"{i}x + 1")
]


@pytest.mark.parametrize("name", BOXES)
def test_hendrycks_takes_linear_time(name):
    """The trainer calls it without a limit. A quadratic step would take minutes on 300,000 characters."""
    box = (BOXES[name] * (300_000 // len(BOXES[name]) + 1))[:1_000_000]
    start = time.process_time()
    assert is_equiv(box, box)
    assert not is_equiv(box, "7") and not is_equiv("7", box)
    assert hendrycks_reward(rf"\boxed{{{box}}}", "7") == 0.0
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("name", "boxed"),
    [
        ("ten megabytes without a box", None),
        ("a million boxes", "8"),
        ("a million open boxes", None),
        ("a million box commands", None),
        ("a million closing braces", None),
        (r"a megabyte of \boxe", None),
    ],
)
def test_last_box_of_hostile_texts(name, boxed):
    start = time.process_time()
    assert last_boxed(TEXTS[name]) == boxed
    assert hendrycks_reward(TEXTS[name], "7") == 0.0
    assert time.process_time() - start < 5


def test_ordinary_verdicts_and_throughput_stay(capfd):
    """One in ten is hostile: the ordinary verdicts are those without them, and the limit bounds what they cost."""
    start = time.monotonic()
    alone = grade_math_verify(ORDINARY, workers=2, time_limit_s=30.0)
    alone_s = time.monotonic() - start
    assert alone.count("right") == 60 and alone.count("wrong") == 240
    mixed, hostile = list(ORDINARY), list(BOXES.values())
    for i, box in enumerate(hostile):
        mixed.insert(9 * i, (box, "7"))
    start = time.monotonic()
    verdicts = dict(zip(mixed, grade_math_verify(mixed, workers=2, time_limit_s=LIMIT_S), strict=True))
    mixed_s = time.monotonic() - start
    assert [verdicts[pair] for pair in ORDINARY] == alone
    found = {name: verdicts[box, "7"] for name, box in BOXES.items()}
    assert set(found.values()) == {"wrong", "unscorable"}
    assert {found[name] for name in ENDLESS} == {"unscorable"}
    assert mixed_s <= 3 * alone_s + len(hostile) * LIMIT_S / 2 + 15
    log = capfd.readouterr()
    assert log.out == "" and log.err.count("unscorable") == list(found.values()).count("unscorable")
    assert len(log.err) < 200 * len(hostile), "answers of a megabyte are in the log"


def test_grade_samples_on_hostile_answers(tmp_path):
    """The script as a process; a lone surrogate has no place in a parquet file. Nothing that an answer holds is run."""
    boxes = {name: box for name, box in BOXES.items() if "surrogate" not in name}
    texts = [r"so \boxed{7}", *(rf"so \boxed{{{box}}}" for box in boxes.values()), *TEXTS.values(), r"\boxed{8}"]
    rows = [{"update": 0, "benchmark": "b", "question": "q", "sample": i, "text": t} for i, t in enumerate(texts)]
    pd.DataFrame(rows).astype({"update": "int32", "sample": "int32"}).to_parquet(tmp_path / "samples.parquet")
    pd.DataFrame([{"id": "q", "problem": "3+4", "answer": "7"}]).to_parquet(tmp_path / "b.parquet")
    command = [sys.executable, SCRIPTS / "grade_samples.py", "--samples", "samples.parquet", "--questions", "b.parquet"]
    command += ["--settings", json.dumps({"processes": 2, "time_limit_s": 1.0}), "--grades", "grades.parquet"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    grades = pd.read_parquet(tmp_path / "grades.parquet")
    assert list(grades["hendrycks"]) == [True] + [False] * (len(texts) - 1)
    assert grades["math_verify"].iloc[0] == "right" and grades["math_verify"].iloc[-1] == "wrong"
    assert set(grades["math_verify"].iloc[1:]) == {"wrong", "unscorable"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.parquet", "grades.parquet", "samples.parquet"]
    assert len(result.stderr) < 20_000


JOB = """
import multiprocessing, sys, threading, time
sys.path.insert(0, {scripts!r})
from prerl.evaluation.grading import grade_math_verify

def report():
    while len(children := multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    print(*(child.pid for child in children), flush=True)

if __name__ == "__main__":
    threading.Thread(target=report, daemon=True).start()
    grade_math_verify([("9^{{9^{{9^{{9}}}}}}", "7"), ("8^{{9^{{9^{{9}}}}}}", "7")], workers=2, time_limit_s=600.0)
"""


def stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the name: state, parent, …; a process that is gone is a zombie (Z)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["Z"]


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_that_hang_die_with_their_job(tmp_path, end):
    """Both workers are in a power of integers, which holds their interpreters, when the job is killed."""
    script = tmp_path / "job.py"
    script.write_text(JOB.format(scripts=str(SCRIPTS)))
    # a run in the background of a shell ignores SIGINT, and its children would too
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    job = subprocess.Popen([sys.executable, script], preexec_fn=heed, text=True, **pipes)
    workers = []
    try:
        workers = [int(pid) for pid in job.stdout.readline().split()]
        assert len(workers) == 2
        ticks = os.sysconf("SC_CLK_TCK")
        before = {pid: int(stat(pid)[11]) for pid in workers}
        assert wait_until(lambda: all(int(stat(p)[11]) - before[p] > ticks for p in workers), 120), "no worker hangs"
        server = int(stat(workers[0])[1])
        assert server not in (job.pid, 1) and stat(server)[0] != "Z"
        job.send_signal(end)
        job.wait(timeout=20)
        assert wait_until(lambda: {stat(pid)[0] for pid in [*workers, server]} == {"Z"}, 10)
    finally:
        for process in (job.pid, *workers):
            if stat(process)[0] != "Z":
                os.kill(process, signal.SIGKILL)
        job.wait()
        job.stdout.close()
