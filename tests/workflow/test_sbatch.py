"""slurm/sbatch with programs of the test in place of SLURM's; on a cluster: tests/slurm/test_faults_on_cluster.py."""

import os
import subprocess

import pytest

from checkouts import ROOT

COMMENT = "rule_train_policy_wildcards_miniature_grpo_1"
PLUGIN = ["--parsable", "--job-name", "prerl_7", "--output", "log", "--comment", COMMENT, "--wrap", "true"]
BUSY = "echo 'Socket timed out on send/recv operation' >&2; exit 1"


@pytest.fixture
def sbatch(tmp_path):
    """Call slurm/sbatch: (its end, how often the real sbatch was called)."""

    def call(real: str, queue: str, arguments: list[str] = PLUGIN) -> tuple[subprocess.CompletedProcess, int]:
        """real, queue: lines of sh for sbatch, which finds its number in $n, and for squeue."""
        count = f"echo >> {tmp_path}/calls; n=$(wc -l < {tmp_path}/calls)"
        for name, lines in {"sbatch": f"{count}; {real}", "squeue": f"n=$(wc -l < {tmp_path}/calls); {queue}"}.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "sleep").write_text("#!/bin/sh\n")
        for name in ("sbatch", "squeue", "sleep"):
            (tmp_path / name).chmod(0o755)
        (tmp_path / "calls").write_text("")
        path = f"{ROOT}/slurm:{tmp_path}:{ROOT}/slurm:{os.environ['PATH']}"  # twice: in a job of a job
        environment = os.environ | {"PATH": path}
        ended = subprocess.run(["sbatch", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return ended, (tmp_path / "calls").read_text().count("\n")

    return call


def test_a_job_is_submitted(sbatch):
    ended, calls = sbatch("echo 17", f"echo '12|COMPLETING|{COMMENT}'; echo '13|RUNNING|{COMMENT}0'")
    assert (ended.stdout, ended.stderr, ended.returncode, calls) == ("17\n", "", 0, 1)


def test_a_call_that_fails_is_repeated(sbatch):
    ended, calls = sbatch(f"[ $n = 3 ] || {{ {BUSY}; }}; echo 17", "true")
    assert (ended.stdout, ended.stderr, ended.returncode, calls) == ("17\n", "", 0, 3)


def test_a_job_that_was_taken_all_the_same_is_not_submitted_again(sbatch):
    """squeue fails at first."""
    queue = f"[ $n = 1 ] || exit 0; mkdir asked 2>/dev/null && {{ {BUSY}; }}; echo '17|PENDING|{COMMENT}'"
    ended, calls = sbatch(BUSY, queue)
    assert (ended.stdout, ended.stderr, ended.returncode, calls) == ("17\n", "", 0, 1)


def test_a_call_that_always_fails_is_the_plugins(sbatch):
    ended, calls = sbatch(BUSY, "true")
    said = "Socket timed out on send/recv operation\n"
    assert (ended.stdout, ended.stderr, ended.returncode, calls) == ("", said, 1, 3)


def test_calls_of_others_go_through(sbatch):
    ended, calls = sbatch('echo "$@"; exit 3', "exit 1", ["--test-only", "--wrap", "a b"])
    assert (ended.stdout, ended.returncode, calls) == ("--test-only --wrap a b\n", 3, 1)
