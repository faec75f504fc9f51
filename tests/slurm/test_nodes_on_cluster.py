"""Training on two nodes, a process each over gloo: the numbers of one process, and where it ran."""

import pytest

from virtual_cluster import SMOKE, TARGET, Checkout


def scale_on(nodes: int) -> dict:
    asked = {"threads": 2, "mem_mb": 2000, "runtime_min": 10} | ({"gpu": nodes, "nodes": nodes} if nodes > 1 else {})
    card = {"name": "none", "memory_gib": 79, "tflops": 989, "bandwidth_tb_s": 3.35}
    return SMOKE | {"resources": {"train_policy": asked}, "hardware": {"gpu": card}}


def processes_for_gpus(checkout: Checkout) -> None:
    """The GPUs are fake: a process without one in place of a process on each."""
    rules = checkout.folder / "rules/common.smk"
    text = rules.read_text()
    assert text.count("--gpus {resources.gpu}") == 1
    rules.write_text(text.replace("--gpus {resources.gpu}", "--processes {resources.gpu}"))


def test_two_nodes_train_as_one_process(base):
    two, one = base.copy("two_nodes", scale_on(2)), base.copy("one_node", scale_on(1))
    processes_for_gpus(two)
    snakemakes = [two.start(TARGET, "--set-resources", "train_policy:gpu=2"), one.start(TARGET)]
    for checkout, snakemake in zip((two, one), snakemakes, strict=True):
        checkout.finish(snakemake)
    (job,) = two.trainings()
    assert (job["NodeList"], job["State"]) == ("node[1-2]", "COMPLETED")
    assert job["AllocTRES"] == "billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,mem=4000M,node=2"
    for ours, expected in zip(two.results()["metrics"], one.results()["metrics"], strict=True):
        words = {name for name, value in expected.items() if isinstance(value, str)}
        assert {name: ours.pop(name) for name in words} == {name: expected.pop(name) for name in words}
        assert ours == pytest.approx(expected, rel=1e-3, abs=1e-5)
