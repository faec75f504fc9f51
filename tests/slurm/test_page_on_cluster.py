"""docs/cluster.md, word for word: the commands of its start, what shows the queue, the way back after a killed run."""

import os
import re
import signal
import subprocess

import pytest

from checkouts import ROOT
from prerl.config.methods import resolve_methods
from prerl.config.scales import read_config, read_files
from prerl.planning.gpus import choose_gpus
from virtual_cluster import SMOKE, wait_for

PAGE = (ROOT / "docs/cluster.md").read_text()
WHOLE_PAPER = "snakemake --profile slurm"  # no such cluster here: the plan alone is made


def commands(section: str) -> list[str]:
    """The indented lines of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


@pytest.fixture(scope="module")
def checkout(shop):
    return shop.copy("page", SMOKE)


@pytest.fixture
def bash(checkout):
    """Run a line in the checkout as a user types it; its output."""

    def run(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=checkout.folder,
            env=checkout.site.environment() | {"USER": "root"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}"
        return done.stdout

    return run


def test_start(checkout, bash):
    install, activate, *rest = commands("Start")
    assert (install, activate) == ("make .venv/installed", ". .venv/bin/activate")  # the tests run in that
    environments, plan, budget, preflight, one_job, paper = rest
    assert paper == WHOLE_PAPER
    bash(environments)
    assert re.search(r"^train_policy +\d+$", bash(plan), re.M)
    assert re.search(r"^train_policy +102 +1 ", bash(budget), re.M)  # with the one GPU of `fill_in`
    # refused for the paper: eight GPUs in one's place, terabytes of disk; but SLURM takes every job
    said = bash(f"! {preflight}")
    assert "FAULT GPU memory: resources.train_policy: qwen3-8b needs" in said
    assert "ok    environments: all are built" in said
    assert "ok    queue: SLURM accepts the jobs of" in said and "FAULT queue" not in said
    bash(one_job)
    (job,) = checkout.accounting()
    assert (job["State"], job["Comment"]) == ("COMPLETED", "rule_prepare_miniature_data_wildcards_chain3")
    assert (checkout.folder / "results/smoke/data/chain3.parquet").is_file()


def test_the_table_of_jobs_is_the_configuration():
    block = read_config(read_files() | {"scale": "paper"})
    resources = {}
    for rule, own in choose_gpus(block, resolve_methods(block))["resources"].items():
        if not isinstance(own.get("gpu"), dict):
            resources[rule, ""] = own
            continue
        for model in block["models"]:  # `gpu: auto`: of each GPU
            gpus = own["gpu"][model]
            of_model = own | {"gpu": gpus, "threads": gpus * own["threads"], "mem_mb": gpus * own["mem_mb"]}
            resources[rule, model.removeprefix("qwen3-").upper()] = of_model
    hours = {"5 days": 120, "1 day": 24, "12 hours": 12, "4 hours": 4, "2 hours": 2, "1 hour": 1}
    rows = re.findall(r"^\| `(\w+)`(?:, (\S+))? \| (\S+) \| (\d+) \| (\d+) GB \| (\d+ \w+)", PAGE, re.M)
    assert {
        (rule, model): {"threads": int(cores), "mem_mb": 1000 * int(memory), "runtime_min": 60 * hours[time]}
        | ({} if gpu == "–" else {"gpu": int(gpu)})
        for rule, model, gpu, cores, memory, time in rows
    } == {key: own for key, own in resources.items() if not key[0].startswith("aggregate")}


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ("slurm_partition=nowhere", "Invalid partition name"),
        ("slurm_account=nobody", "Invalid account or account/partition combination"),
        ("runtime=9999", "asks for 9999 minutes, the partition main allows 7200"),
        ("gpu=9", "Requested node configuration is not available"),
    ],
)
def test_before_the_queue_says_what_slurm_would_not_take(bash, resource, said):
    soon = "--max-jobs-per-timespan 100/1s --slurm-init-seconds-before-status-checks 1"  # to its end
    options = f"{soon} --set-resources train_policy:{resource}"
    found = bash(f"! snakemake --profile slurm --config scale=smoke {options} -- preflight")
    (fault,) = [line for line in found.splitlines() if line.startswith("FAULT")]
    assert fault.startswith("FAULT queue: train_policy: ") and said in fault


def test_where_to_look(bash):
    asked = re.findall(r"`(sacctmgr [^`]*|sinfo [^`]*)`", PAGE)
    assert len(asked) == 2
    assert "lab" in bash(asked[0])
    assert "gpu:h100:8" in bash(asked[1])


def test_the_way_back_after_a_killed_snakemake(checkout, bash):
    cancel, unlock, again = commands("When something breaks")
    assert again == WHOLE_PAPER
    (show,) = commands("What is in the queue")
    snakemake = checkout.start("results/smoke/miniature/base/seed1/model/manifest.json")
    named = "rule_pretrain_miniature_model_wildcards_miniature_1"
    wait_for(lambda: named in bash(show), "the job in the queue")
    os.killpg(snakemake.pid, signal.SIGKILL)
    snakemake.wait()
    bash(cancel)
    wait_for(lambda: named not in bash(show), "the end of the job")
    bash(unlock)
    checkout.run("results/smoke/miniature/base/seed1/model/manifest.json")
