"""download_model through Snakemake at paper scale from a hub on loopback: interrupted, continued, what reruns it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from checkouts import copy_checkout, planned_jobs, snakemake
from hub_server import REPOSITORY, REVISION, hub_of
from prerl.data.miniature import build_model
from prerl.models.checkpoints import verify
from tiny import ARCHITECTURE, SHAPE, TOKENIZER

MANIFEST = "results/paper/tiny/base/model/manifest.json"


def tiny(folder: Path, **changes) -> list[str]:
    """Arguments of snakemake for a model of the loopback hub at paper scale."""
    hub = {"repository": REPOSITORY, "revision": REVISION}
    prompt = {"prefix_token": changes.pop("prefix_token", "<|im_start|>")}
    config = folder / "changes.yaml"
    scale = {"models": {"tiny": {"hub": hub | changes, "architecture": SHAPE}}, "prompt": prompt}
    config.write_text(yaml.safe_dump({"scale": "paper", "scales": {"paper": scale}}))
    return ["--configfile", str(config), "--", MANIFEST]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The paper's prompts and answers have 9,216 tokens, which the tiny model's positions must hold."""
    folder = tmp_path_factory.mktemp("hub")
    model = build_model(ARCHITECTURE | {"max_position_embeddings": 9216}, TOKENIZER, 0)
    model.save_pretrained(folder, max_shard_size="60KB")
    TOKENIZER.save_pretrained(folder)
    with hub_of(folder) as server:
        yield server


@pytest.fixture
def checkout(tmp_path, hub, monkeypatch) -> Path:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    hub.asked, hub.storage.asked = [], []
    return copy_checkout(tmp_path / "workflow")


def test_a_failed_download_is_told_and_continued_and_then_left_alone(checkout, hub):
    """Snakemake deletes the output of a failed job and its log before the next attempt, and asks what reruns."""
    hub.storage.faults = ["drop", "403"]
    failed = snakemake(checkout, "--cores", "1", *tiny(checkout))
    assert failed.returncode == 1 and "ask for access at" in failed.stdout and "Traceback" not in failed.stdout
    assert not (checkout / MANIFEST).exists()
    (first, _), *_ = asked = hub.storage.asked
    kept = (hub.folder / first).stat().st_size // 2
    assert asked == [(first, 0), (first, kept)]

    hub.storage.asked = []
    continued = snakemake(checkout, "--cores", "1", *tiny(checkout))
    assert continued.returncode == 0, continued.stdout
    assert hub.storage.asked[0] == (first, kept)
    folder = verify(checkout / MANIFEST)
    assert {file.name for file in folder.iterdir()} == {
        *(file.name for file in hub.folder.iterdir()), "source.json", "manifest.json"
    }  # fmt: skip
    assert list((checkout / "results/paper/state/downloads").iterdir()) == []

    script = checkout / "workflow_scripts/download_model.py"
    script.write_text(f"# a comment\n{script.read_text()}")
    assert planned_jobs(checkout, *tiny(checkout, prefix_token="<think>", repository="mirror/tiny")) == {}
    assert planned_jobs(checkout, *tiny(checkout, revision="f" * 40)) == {"download_model": 1}


def test_the_users_own_offline_reaches_the_download(checkout, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = snakemake(checkout, "--cores", "1", *tiny(checkout))
    assert result.returncode == 1 and "HF_HUB_OFFLINE is set, so nothing can be fetched" in result.stdout
    assert hub.asked == []


def test_every_other_job_is_offline(checkout, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    program = "import huggingface_hub; print(huggingface_hub.is_offline_mode())"
    (checkout / "other.smk").write_text(
        f'include: "Snakefile"\nrule other:\n    output: "offline"\n    shell: "python -c \'{program}\' > {{output}}"\n'
    )
    result = snakemake(checkout, "--snakefile", "other.smk", "--cores", "1", "--", "offline")
    assert result.returncode == 0, result.stdout
    assert (checkout / "offline").read_text() == "True\n"
