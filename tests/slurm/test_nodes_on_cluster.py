"""Training on two nodes, a process each over gloo: the numbers of one process, where it ran, and how it ends early."""

import os
import re
import signal

import pytest

from virtual_cluster import (
    SMOKE,
    STATE,
    TARGET,
    Checkout,
    kill_while_writing,
    processes_of,
    say,
    trainers_of,
    wait_for,
)

UPDATES, EVERY = 8, 4
GPUS = ("--set-resources", "train_policy:gpu=2")


def scale_on(nodes: int) -> dict:
    asked = {"threads": 1, "mem_mb": 10000, "runtime_min": 10} | ({"gpu": nodes, "nodes": nodes} if nodes > 1 else {})
    card = {"name": "none", "memory_gib": 79, "tflops": 989, "bandwidth_tb_s": 3.35}
    training = {"total_updates": UPDATES, "checkpoint_every": EVERY}
    return SMOKE | {"resources": {"train_policy": asked}, "hardware": {"gpu": card}, "training": training}


def processes_for_gpus(checkout: Checkout) -> None:
    """The GPUs are fake: a process without one in place of a process on each."""
    rules = checkout.folder / "rules/common.smk"
    text = rules.read_text()
    assert text.count("--gpus {resources.gpu}") == 1
    rules.write_text(text.replace("--gpus {resources.gpu}", "--processes {resources.gpu}"))


@pytest.fixture(scope="module")
def undisturbed(base):
    """Runs on two nodes and on one; they go on beside the first test."""
    two, one = base.copy("two_nodes", scale_on(2)), base.copy("one_node", scale_on(1))
    processes_for_gpus(two)
    two.start(TARGET, *GPUS)
    one.start(TARGET)
    yield two, one
    for checkout in (two, one):
        checkout.stop()


def test_two_nodes_told_to_end_and_killed_go_on_bitwise(base, undisturbed):
    """SIGTERM saves the update at hand; SIGKILL, here while both write, costs what came after the last checkpoint."""
    told = base.copy("two_nodes_told", scale_on(2))
    processes_for_gpus(told)
    try:
        with told.counting_updates() as written:
            snakemake = told.start(TARGET, *GPUS)
            told.train_until(snakemake, 1)
            first = told.running()["id"]
            say("scancel", first)
            # sacct has no comment of a running job, by which `trainings` knows it
            wait_for(lambda: len(told.accounting()) == 2, "the second job", pause_s=1)
            second = told.accounting()[1]["JobID"]
            wait_for(lambda: len(trainers_of(second)) == 2, "its processes")
            kill_while_writing(second, next((told.folder / STATE).glob("*/checkpoints")))
            told.finish(snakemake)
        for pid in processes_of(first):  # SIGTERM may hang a node's Snakemake, and here no cgroup ends it with its job
            os.kill(pid, signal.SIGKILL)
    finally:
        told.stop()
    jobs = told.trainings()
    assert [job["State"].split()[0] for job in jobs] == ["CANCELLED", "FAILED", "COMPLETED"]
    assert {job["NodeList"] for job in jobs} == {"node[1-2]"}
    stopped = re.findall(rf"SIGTERM: update (\d+) of {UPDATES} is saved", told.logs())
    assert len(stopped) == 2 and len(set(stopped)) == 1  # both, after the same update
    assert 0 < len(written) - UPDATES <= EVERY
    two, _ = undisturbed
    two.finish(*two.started)
    assert told.results() == two.results()


def test_two_nodes_train_as_one_process(undisturbed):
    for checkout in undisturbed:
        checkout.finish(*checkout.started)
    two, one = undisturbed
    (job,) = two.trainings()
    assert (job["NodeList"], job["State"]) == ("node[1-2]", "COMPLETED")
    assert job["AllocTRES"] == "billing=2,cpu=2,gres/gpu:h100=2,gres/gpu=2,mem=20000M,node=2"
    for ours, expected in zip(two.results()["metrics"], one.results()["metrics"], strict=True):
        words = {name for name, value in expected.items() if isinstance(value, str)}
        assert {name: ours.pop(name) for name in words} == {name: expected.pop(name) for name in words}
        assert ours == pytest.approx(expected, rel=1e-3, abs=1e-5)
