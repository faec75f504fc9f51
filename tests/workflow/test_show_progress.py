"""The line of progress of `make miniature`: what it counts, what it passes on."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

import show_progress
from checkouts import ROOT, environment, snakemake
from prerl.config.scales import read_config, read_files


def block(scale):
    return read_config(read_files() | {"scale": scale})


DRY_RUN = """
[Mon Nov 23 22:24:46 2026]
rule pretrain_miniature_model:
    output: results/smoke/miniature/base/seed1/model/manifest.json
    wildcards: model=miniature, seed=1

rule train_policy:
    input: workflow_scripts/train_policy.py
    wildcards: model=miniature, method=grpo, seed=1
Shell command: python
localrule all:
    input: results/smoke/report.html
Job stats:
train_policy      1
"""


def test_plan_of_a_dry_run():
    plan = show_progress.read_plan(DRY_RUN, block("smoke"))
    assert plan.jobs == Counter(pretrain_miniature_model=1, train_policy=1, all=1)
    assert plan.runs == [("miniature", "grpo", "1")] and plan.updates == 3
    assert set(plan.seconds) == {"pretrain_miniature_model", "train_policy"} and min(plan.seconds.values()) > 0


def test_plan_of_the_real_dry_run(checkout):
    plan = show_progress.read_plan(snakemake(checkout, "-n", "--config", "scale=smoke").stdout, block("smoke"))
    assert plan.jobs["train_policy"] == len(plan.runs) == 18
    assert plan.jobs["all"] == 1


def test_updates_are_those_of_the_runs_own_phase_and_of_this_time(tmp_path):
    run = ("miniature", "dsrl", "11")
    assert show_progress.updates_done(show_progress.progress_of(tmp_path, run, since=0)) == 0
    folder = tmp_path / "miniature/dsrl/seed11"
    folder.mkdir(parents=True)
    progress = {"update": 25, "first_update": 21, "updates": 60, "reward": 0.375}
    (folder / "progress.json").write_text(json.dumps(progress))
    found = show_progress.progress_of(tmp_path, run, since=time.time() - 60)
    assert show_progress.updates_done(found) == 5
    assert show_progress.progress_of(tmp_path, run, since=time.time() + 60) is None
    wildcards = {"model": "miniature", "method": "dsrl", "seed": "11"}
    assert show_progress.name_of("train_policy", wildcards, found) == (
        "train_policy dsrl seed 11, update 25 of 60, reward 0.38"
    )


def test_line():
    seconds = {"train_policy": 180.0, "generate_samples": 30.0}  # 120 updates of 1.5 s and 2 jobs of 15 s
    plan = show_progress.Plan(Counter(train_policy=2, generate_samples=2), seconds, [], 120)
    line = show_progress.describe(plan, Counter(train_policy=1), 70, {}, elapsed_s=600)  # 105 of 210 s
    assert line == "jobs 1/4 · updates 70/120 · 10 min gone, about 10 min left"
    assert "left" not in show_progress.describe(plan, Counter(), 0, {}, 10)


def test_a_running_job_is_done_in_part_at_most_nine_tenths():
    """A long first job must not make the time left grow: 2 jobs of 15 s planned, one runs for 6 s, then for 60."""
    plan = show_progress.Plan(Counter(generate_samples=2), {"generate_samples": 30.0}, [], 0)
    for seconds, share in ((6, 0.2), (60, 0.45)):
        running = show_progress.under_way(plan, [("generate_samples", seconds), ("page", 5.0)])
        assert show_progress.share_done(plan, Counter(), 0, running) == pytest.approx(share)
    assert "jobs 0/2 · 1 min gone, about 1 min left" in show_progress.describe(plan, Counter(), 0, running, 60)


@pytest.mark.parametrize(("seconds", "said"), [(20, "under a minute"), (61, "1 min"), (3725, "1 h 02 min")])
def test_duration(seconds, said):
    assert show_progress.duration(seconds) == said


def test_errors_are_shown_and_routine_is_not(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(
        "[Mon Nov 23]\nFinished jobid: 3 (Rule: train_policy)\n1 of 9 steps (11%) done\n"
        "Error in rule grade_samples:\n    log: x\nLogfile x:\nKeyError: 'a'\n[Mon Nov 23]\nrule all:\n"
    )
    output = show_progress.Output(log)
    output.follow()
    assert output.finished == Counter(train_policy=1) and output.last == "train_policy"
    assert capsys.readouterr().err == "Error in rule grade_samples:\n    log: x\nLogfile x:\nKeyError: 'a'\n"


STARTED = """
rule train_policy:
    input: x
    jobid: 4
    reason: Missing output files: y
    wildcards: model=miniature, method=grpo, seed=1
Shell command: python
localrule prepare_miniature_data:
    jobid: 7
    wildcards: set=train
"""


def test_what_runs_now_and_what_ended_last(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text(STARTED)
    output = show_progress.Output(log)
    output.follow()
    plan = show_progress.Plan(Counter(train_policy=2), {"train_policy": 60.0}, [("miniature", "grpo", "1")], 6)
    display = show_progress.Display(plan, tmp_path, time.time() - 60)
    display.show(output)
    line = "jobs 0/2 · updates 0/6 · 1 min gone · now train_policy grpo seed 1; prepare_miniature_data train\n"
    assert capsys.readouterr().out == line
    display.show(output)
    assert capsys.readouterr().out == ""  # a line every 20 seconds
    with log.open("a") as stream:
        stream.write("Finished jobid: 4 (Rule: train_policy)\n")
    output.follow()
    assert list(output.running) == ["7"] and output.last == "train_policy grpo seed 1"
    with log.open("a") as stream:
        stream.write("Error in rule prepare_miniature_data:\n    jobid: 7\n    wildcards: set=train\n")
    output.follow()
    assert output.running == {}
    display.end()


TERMINAL = """
import sys, time, show_progress
from collections import Counter
from pathlib import Path
log = Path(sys.argv[1])
output = show_progress.Output(log)
output.follow()
plan = show_progress.Plan(Counter(train_policy=1), {"train_policy": 60.0}, [("miniature", "grpo", "1")], 4)
display = show_progress.Display(plan, log.parent, time.time() - 60)
display.show(output)
display.end()
"""


def test_a_terminal_has_bars(tmp_path):
    """All work and the running jobs, each with its share: two of four updates are done."""
    (tmp_path / "log").write_text(STARTED)
    folder = tmp_path / "miniature/grpo/seed1"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"update": 2, "first_update": 1, "updates": 4, "reward": 0.5}))
    main, side = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", TERMINAL, tmp_path / "log"],
        env=environment() | {"PYTHONPATH": str(ROOT / "workflow_scripts"), "TERM": "xterm", "COLUMNS": "160"},
        stdout=side, check=True,
    )  # fmt: skip
    os.close(side)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(main, 4096):
            shown += part
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    lines = [line for line in text.splitlines() if "%" in line]
    assert any(re.search(r"updates 2/4 · 1 min gone, about 1 min left .*50%", line) for line in lines), text
    assert any(re.search(r"train_policy grpo seed 1, update 2 of 4, reward 0.50 .*50%", line) for line in lines), text


FAKE = """#!/bin/sh
case "$*" in *-n*) echo 'rule all:'; exit 0;; esac
echo "$@"; echo 'Error in rule x:'
trap 'echo stopped; exit 3' INT
sleep 30 & wait
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_snakemake_and_its_exit_code_comes_back(tmp_path, number):
    (tmp_path / "snakemake").write_text(FAKE.replace("INT", "INT TERM"))
    (tmp_path / "snakemake").chmod(0o755)
    scripts = tmp_path / "checkout/workflow_scripts"
    scripts.parent.mkdir()
    for name in ("workflow_scripts", "rules", "scales", "config.yaml"):
        os.symlink(ROOT / name, scripts.parent / name)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN.format(root=str(scripts.parent)), "--scale", "smoke", "--cores", "1"],
        env=environment() | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "workflow_scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = scripts.parent / "results/smoke/logs/snakemake.log"
    while not (log.exists() and "Error in rule x" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1.5)
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "stopped" in log.read_text()
    assert "Error in rule x:" in said and "snakemake ended with code 3" in said


RUN = """
import pathlib, sys, show_progress
show_progress.ROOT = pathlib.Path({root!r})
sys.exit(show_progress.main())
"""


def test_a_wrong_configuration_is_said_at_once(tmp_path):
    result = subprocess.run(
        [sys.executable, "workflow_scripts/show_progress.py", "--scale", "huge", "--cores", "1"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "scale: 'huge' is not one of" in result.stderr
    assert not (ROOT / "results/huge").exists()
