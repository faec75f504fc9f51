"""The line of progress of `make miniature`: what it counts, what it passes on."""

import json
import os
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
    assert plan.jobs["train_policy"] == len(plan.runs) == 28
    assert plan.jobs["all"] == 1


def test_updates_are_those_of_the_runs_own_phase_and_of_this_time(tmp_path):
    run = ("miniature", "dsrl", "11")
    assert show_progress.updates_done(tmp_path, run, since=0) == 0
    folder = tmp_path / "miniature/dsrl/seed11"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"update": 25, "first_update": 21, "updates": 60}))
    assert show_progress.updates_done(tmp_path, run, since=time.time() - 60) == 5
    assert show_progress.updates_done(tmp_path, run, since=time.time() + 60) == 0


def test_line():
    seconds = {"train_policy": 180.0, "generate_samples": 30.0}  # 120 updates of 1.5 s and 2 jobs of 15 s
    plan = show_progress.Plan(Counter(train_policy=2, generate_samples=2), seconds, [], 120)
    line = show_progress.describe(plan, Counter(train_policy=1), done=70, elapsed_s=600)  # 105 of 210 s
    assert line == "jobs 1/4 · updates 70/120 · 10 min gone, about 10 min left"
    assert "left" not in show_progress.describe(plan, Counter(), 0, 10)


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
    assert output.finished == Counter(train_policy=1)
    assert capsys.readouterr().err == "Error in rule grade_samples:\n    log: x\nLogfile x:\nKeyError: 'a'\n"


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
