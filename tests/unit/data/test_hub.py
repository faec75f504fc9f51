"""download_model against a hub on loopback that fails in each known way: one message with the remedy, nothing
half-published, no byte of a file fetched twice, and the rerun ends with the right model."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import huggingface_hub
import pytest
import torch

import prerl.data.downloads
import prerl.data.hub
from hub_job import LEFT, SHARDS, TAKEN, Job
from hub_server import REPOSITORY, REVISION, TOKEN, hub_of
from prerl.data.downloads import DownloadError
from prerl.data.hub import HubModel, published
from prerl.data.miniature import build_model
from prerl.models.checkpoints import load_model, verify
from tiny import ARCHITECTURE, TOKENIZER

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The files of a tiny Qwen3 in two shards, and some that must not be taken."""
    folder = tmp_path_factory.mktemp("repository")
    build_model(ARCHITECTURE, TOKENIZER, 0).save_pretrained(folder, max_shard_size="60KB")
    TOKENIZER.save_pretrained(folder)
    assert {file.name for file in folder.iterdir()} == TAKEN
    for name in LEFT:
        (folder / name).write_bytes(b"import os")
    return folder


@pytest.fixture
def hub(repository, tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with hub_of(shutil.copytree(repository, tmp_path / "hub")) as server:
        # what the client read from the environment when it was imported
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # as its rule has it
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home/token"))
        yield server


@pytest.fixture
def job(tmp_path) -> Job:
    (tmp_path / "job").mkdir()
    return Job(tmp_path / "job")


def large_bytes(repository: Path) -> int:
    return sum((repository / name).stat().st_size for name in [*SHARDS, "tokenizer.json"])


def test_a_download(job, hub, repository, monkeypatch, capfd):
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.sent_bytes == large_bytes(repository)
    assert [request for request in hub.asked if "/api/" in request] == [
        f"GET /api/models/{REPOSITORY}/revision/{REVISION}"
    ]
    asked = {request.rpartition("/")[2] for request in hub.asked if "/resolve/" in request}
    assert asked == TAKEN  # and by the checks of the model nothing more
    ids = torch.tensor([[3, 4, 5]])
    original, fetched = (load_model(folder)(ids).logits for folder in (repository, job.model))
    assert torch.equal(original, fetched)


def test_a_second_run_fetches_nothing(job, hub, repository, monkeypatch):
    """As after Snakemake deleted the manifest, its output."""
    job.run(monkeypatch)
    (job.model / "manifest.json").unlink()
    hub.asked, hub.storage.asked = [], []
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert [request.split()[0] for request in hub.asked] == ["GET"] and hub.storage.asked == []


def test_a_damaged_published_file_is_fetched_alone(job, hub, repository, monkeypatch, capfd):
    job.run(monkeypatch)
    damaged = job.model / SHARDS[1]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    hub.storage.asked = []
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.asked == [(SHARDS[1], 0)]
    assert f"{damaged} is damaged (" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("fault", "requests", "said"),
    [
        ("corrupt", 1, "tokenizer.json was damaged in transit: rerun, and if it recurs set HF"),
        ("truncate", 1, "nothing was kept; tokenizer.json was damaged in transit"),
        ("500", 5, "the server answers 500 Internal Server Error (5 attempts; nothing was kept); if it is gated"),
        ("403", 1, "the server refuses with 403 Forbidden; if it is gated or private (no token is set), ask for"),
        ("404", 1, "listed, but not there (404); rerun, or set HF_ENDPOINT"),
        ("drop", 5, "5 attempts; what arrived is kept); if it is gated"),
        ("stall", 5, "Read timed out"),
    ],
)
def test_a_fault_ends_in_one_message_and_the_rerun_in_the_model(
    job, hub, repository, monkeypatch, fault, requests, said
):
    hub.storage.standing = fault
    if fault == "stall":
        job.timeout_s = 0.5
    message = job.run(monkeypatch)
    assert message.startswith(f"{hub.endpoint}/{REPOSITORY}/resolve/{REVISION}/tokenizer.json: ")
    assert said in message and "\n" not in message
    assert [name for name, _ in hub.storage.asked] == ["tokenizer.json"] * requests and not job.model.exists()
    hub.storage.standing = None
    sent = hub.storage.sent_bytes
    kept = sent if fault in ("drop", "stall") else 0
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.sent_bytes - sent == large_bytes(repository) - kept


def test_a_damaged_shard_is_named_by_both_sums(job, hub, repository, monkeypatch):
    hub.storage.faults = [None, None, "corrupt"]
    message = job.run(monkeypatch)
    right = next(e["lfs"]["sha256"] for e in hub.listing()["siblings"] if e["rfilename"] == SHARDS[1])
    assert f"/{SHARDS[1]}: the server gave" in message and f"not the pinned {right}; nothing was kept" in message
    hub.storage.asked = []
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert [name for name, _ in hub.storage.asked] == [SHARDS[1]]  # the others were kept


def test_a_connection_that_broke_is_continued(job, hub, repository, monkeypatch):
    hub.storage.faults = [None, "drop"]
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    half = (repository / SHARDS[0]).stat().st_size // 2
    assert hub.storage.asked[1:3] == [(SHARDS[0], 0), (SHARDS[0], half)]
    assert hub.storage.sent_bytes == large_bytes(repository)


def test_a_killed_job_is_continued_without_fetching_a_byte_twice(job, hub, repository, monkeypatch):
    hub.storage.faults = [None, None, "stall"]
    process = job.start(hub)
    half = (repository / SHARDS[1]).stat().st_size // 2
    deadline = time.monotonic() + 60
    while half not in [file.stat().st_size for file in job.state.glob("*")]:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    assert f"state is in use by process {process.pid}" in job.run(monkeypatch)
    process.kill()
    process.communicate()
    assert not job.model.exists()
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.asked[2:4] == [(SHARDS[1], 0), (SHARDS[1], half)]
    assert hub.storage.sent_bytes == large_bytes(repository)


def test_a_damaged_file_kept_from_an_earlier_run_is_fetched_whole(job, hub, repository, monkeypatch):
    hub.storage.faults = [None, None, "403"]
    job.run(monkeypatch)
    size = (repository / SHARDS[0]).stat().st_size
    (kept,) = (file for file in job.state.iterdir() if file.stat().st_size == size)
    content = kept.read_bytes()
    kept.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    hub.storage.asked = []
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.asked[0] == (SHARDS[0], 0)


def test_the_users_own_cache_of_the_hub_is_used_where_it_is_right(job, hub, repository, monkeypatch):
    snapshot = Path(huggingface_hub.constants.HF_HUB_CACHE) / f"models--owner--tiny/snapshots/{REVISION}"
    shutil.copytree(repository, snapshot)
    os.truncate(snapshot / SHARDS[1], 100)
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.asked == [(SHARDS[1], 0)]
    assert (snapshot / SHARDS[0]).samefile(job.model / SHARDS[0])
    assert (snapshot / SHARDS[1]).stat().st_size == 100


def test_no_weights_are_fetched_that_the_checks_refuse(job, hub, repository, monkeypatch):
    job.prefix = "two words"
    assert "prompt.prefix_token 'two words' is" in job.run(monkeypatch)
    job.shape = {"head_dim": 16}
    assert "models.tiny.architecture.head_dim: 16, but its config.json has 8" in job.run(monkeypatch)
    assert not job.model.exists() and hub.storage.asked == [("tokenizer.json", 0)]
    job.prefix, job.shape = "<|im_start|>", {}
    assert job.run(monkeypatch) == "" and job.is_whole(repository)
    assert hub.storage.asked == [("tokenizer.json", 0), (SHARDS[0], 0), (SHARDS[1], 0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repository": "owner/other"}, "has no model owner/other: correct hub.repository in the configuration"),
        ({"revision": "f" * 40}, f"{REPOSITORY} has no revision {'f' * 40}: correct hub.revision of the model"),
    ],
)
def test_a_wrong_name(job, hub, monkeypatch, change, said):
    vars(job).update(change)
    message = job.run(monkeypatch)
    assert said in message and "\n" not in message
    assert not job.model.exists() and hub.storage.asked == []


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("401", "refuses owner/tiny at revision …with 401 Unauthorized: if it is gated or private (no token is set)"),
        ("503", "with 503 Service Unavailable: rerun when it answers, or set HF_ENDPOINT"),
        ("html", "does not answer like a hub: correct HF_ENDPOINT, or log in"),
    ],
)
def test_a_hub_that_does_not_list(job, hub, monkeypatch, refusal, said):
    hub.refusal = refusal
    message = job.run(monkeypatch)
    assert all(words in message for words in said.split("…")) and "\n" not in message
    assert not job.model.exists() and hub.storage.asked == []


def test_a_mirror_without_checksums_is_refused(job, hub, monkeypatch):
    hub.lists_blobs = False
    assert "no sizes and checksums of files: it is not a complete mirror of the hub" in job.run(monkeypatch)


@pytest.mark.parametrize(("token", "said"), [("", "no token is set"), ("hf_other", "the token that is set has no")])
def test_a_gated_model_names_the_page_and_the_variable(job, hub, monkeypatch, token, said):
    hub.gated = True
    monkeypatch.setenv("HF_TOKEN", token)
    message = job.run(monkeypatch)
    assert f"is gated or private: if it is gated or private ({said}" in message
    assert f"ask for access at {hub.endpoint}/{REPOSITORY} and set HF_TOKEN" in message and "hf_other" not in message
    assert hub.storage.asked == []


def test_a_token_opens_a_gated_model_and_goes_nowhere_else(job, hub, repository):
    """Neither into the log nor to the storage that the hub redirects to."""
    hub.gated = True
    output, _ = job.start(hub, HF_TOKEN=TOKEN, HF_DEBUG="1").communicate(timeout=120)
    assert job.is_whole(repository), output
    assert TOKEN not in output and hub.storage.tokens == {None}


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline(job, hub, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = f"{name} is set, so nothing can be fetched: unset it for the download"
    assert job.run(monkeypatch) == f"{REPOSITORY} at revision {REVISION}: {said}" and hub.asked == []


def test_no_network(job, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    message = job.run(monkeypatch)
    assert "http://127.0.0.1:9 cannot be reached for owner/tiny" in message and "the login node" in message


def test_a_silent_hub(job, hub, monkeypatch):
    job.timeout_s = 0.3
    monkeypatch.setattr(type(hub), "listing", lambda hub: time.sleep(2))
    assert "cannot be reached for owner/tiny" in job.run(monkeypatch)


def test_without_safetensors(job, hub, monkeypatch):
    for name in SHARDS:
        (hub.folder / name).unlink()
    message = job.run(monkeypatch)
    assert "has no safetensors weights (model.safetensors) among [" in message and "pytorch_model.bin" in message
    assert hub.storage.asked == [] and not job.model.exists()


def test_without_a_shard(job, hub, monkeypatch):
    (hub.folder / SHARDS[1]).unlink()
    assert f"is incomplete: it has no {SHARDS[1]}; name another revision" in job.run(monkeypatch)
    assert not job.model.exists()


def test_a_model_in_one_file(job, hub, monkeypatch):
    for name in [*SHARDS, "model.safetensors.index.json"]:
        (hub.folder / name).unlink()
    build_model(ARCHITECTURE, TOKENIZER, 0).save_pretrained(hub.folder)
    assert job.run(monkeypatch) == ""
    assert "model.safetensors" in {file.name for file in verify(job.model / "manifest.json").iterdir()}


Usage = namedtuple("Usage", "total used free")


def test_the_disk_is_looked_at_before_the_first_byte(job, hub, repository, monkeypatch):
    needed = sum((repository / name).stat().st_size for name in TAKEN)
    with monkeypatch.context() as patch:
        patch.setattr(prerl.data.hub, "GIB", 1000)
        patch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, needed - 1))
        message = job.run(patch)
    said = f"{job.state} has {(needed - 1) / 1000:.2f} GiB free and {REPOSITORY} at revision {REVISION} needs "
    assert message.startswith(f"{said}{needed / 1000:.2f} GiB more there: make room, or make `results` a link")
    assert not [request for request in hub.asked if "/resolve/" in request] and hub.storage.asked == []
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, needed))
        assert job.run(patch) == "" and job.is_whole(repository)


def test_a_disk_that_fills_up(job, hub, repository, monkeypatch):
    def full(response, partial, mode):
        partial.write_bytes(response.raw.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(prerl.data.downloads, "_append", full)
        message = job.run(patch)
    assert message.startswith(f"{job.model}: [Errno 28] No space left on device; make room on the disk")
    assert not job.model.exists()
    assert job.run(monkeypatch) == "" and job.is_whole(repository)


def test_what_arrived_needs_no_room_again(job, hub, repository, monkeypatch):
    hub.storage.faults = [None, None, "drop", "403"]
    job.run(monkeypatch)
    held = sum(file.stat().st_size for file in job.state.iterdir() if file.name != "lock")
    needed = sum((repository / name).stat().st_size for name in TAKEN)
    assert held > (repository / SHARDS[0]).stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, needed - held))
    assert job.run(monkeypatch) == "" and job.is_whole(repository)


def test_published_tells_what_is_there_without_reading_it(job, hub, monkeypatch):
    model, manifest = HubModel(REPOSITORY, REVISION), job.model / "manifest.json"
    with pytest.raises(DownloadError, match="is not in .*: fetch it, `snakemake"):
        published(model, manifest)
    job.run(monkeypatch)
    assert published(model, manifest) == job.model
    with pytest.raises(DownloadError, match=f"holds owner/tiny at revision {REVISION}, the configuration names"):
        published(HubModel(REPOSITORY, "f" * 40), manifest)
    os.truncate(job.model / SHARDS[0], 100)
    with pytest.raises(DownloadError, match=f"{SHARDS[0]} is missing or has the wrong size: delete .*manifest.json"):
        published(model, manifest)
