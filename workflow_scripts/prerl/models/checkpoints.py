"""Checkpoints: ordinary transformers folders, where wanted with optimizer moments and progress, written atomically.

A folder is written under a temporary name, every file synced, `manifest.json` (sha256 and size of each file) last, then
renamed; a reader so sees a whole checkpoint or none. Weights and moments are safetensors: loading runs no code.
This module imports torch only where tensors are read or written, so that `reincarnate_policy` starts fast.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prerl.core.errors import UserError
from prerl.core.files import delete, write_json, writing
from prerl.core.hashes import sha256_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MANIFEST = "manifest.json"
OPTIMIZER = "optimizer.safetensors"
PROGRESS = "progress.json"
CRITIC = "critic.safetensors"
CRITIC_OPTIMIZER = "critic_optimizer.safetensors"


def parts_of(file: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are `file` ("optimizer.safetensors") or one process's part of it, in order of the parts."""
    stem, suffix = file.split(".")
    return sorted(name for name in names if re.fullmatch(rf"{stem}(-\d{{5}}-of-\d{{5}})?\.{suffix}", name))


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file and the remedy."""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def sealed(path: Path) -> dict:
    """The manifest's entry of a file, after syncing it."""
    _sync(path)
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def seal(folder: Path, known: dict[str, dict] | None = None) -> None:
    """Sync every file of `folder` and write its manifest, last. known: entries that need no reading (`sealed`)."""
    files = {
        path.name: sealed(path) for path in sorted(folder.iterdir()) if path.name not in {MANIFEST, *(known or {})}
    }
    files |= known or {}
    write_json(folder / MANIFEST, {"files": files})
    _sync(folder)


def commit(temporary: Path, folder: Path, known: dict[str, dict] | None = None) -> None:
    """Seal `temporary` and rename it to `folder`; what stood there moves aside first and is deleted last."""
    seal(temporary, known)
    replaced = temporary.with_name(f"{temporary.name}.replaced")
    if folder.exists():
        folder.rename(replaced)
    temporary.rename(folder)
    _sync(folder.parent)
    if replaced.exists():
        delete(replaced)


@contextmanager
def safetensors_errors() -> Iterator[None]:
    """What safetensors cannot write as the OSError that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))  # the only trace of it in this exception
        if code is None:
            raise
        raise OSError(int(code[1]), str(error)) from error


@contextmanager
def new_folder(folder: Path, needed_bytes: int, known: dict[str, dict] | None = None) -> Iterator[Path]:
    """A temporary sibling of `folder` to write into, committed at the end; nothing of it stays where writing fails.

    known: see `seal`; it may be filled meanwhile. Raises FileError on a full disk; what stood at `folder` is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with writing(folder, needed_bytes) as temporary:
        temporary.mkdir()
        with safetensors_errors():
            yield temporary
        commit(temporary, folder, known)


RERUN = "rerun the job that makes it (where Snakemake takes that for done, delete its checkpoints/manifest.json first)"


def verify(manifest: Path, remedy: str = RERUN) -> Path:
    """The folder of `manifest` after checking each file's presence, size and sha256. Raises CheckpointError."""
    if not manifest.is_file():
        raise CheckpointError(f"{manifest} is missing: the checkpoint was not finished; {remedy}")
    try:
        files = json.loads(manifest.read_bytes())["files"]
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{manifest} is damaged ({type(error).__name__}: {error}): {remedy}") from None
    for path in manifest.parent.iterdir():
        if path.name not in expected and path != manifest and not path.name.startswith("."):
            raise CheckpointError(f"{path} is foreign, {manifest} does not list it: move it elsewhere, or {remedy}")
    for name, (size, sha256) in expected.items():
        path = manifest.parent / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing though {manifest} lists it: {remedy}")
        if path.stat().st_size != size or sha256_of(path) != sha256:
            raise CheckpointError(f"{path} is damaged (size or sha256 differs from {manifest}): {remedy}")
    return manifest.parent


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def link_files(source: Path, names: list[str], folder: Path) -> None:
    """Publish files of a checkpoint as a new sealed folder by hard links (a copy where links are not possible)."""
    with new_folder(folder, sum((source / name).stat().st_size for name in names)) as temporary:
        for name in names:
            link_or_copy(source / name, temporary / name)


DROPOUTS = ("attention_dropout", "embd_pdrop", "resid_pdrop")
"""Keys of config.json that would make the trainer's log-probs others than the sampler's."""


def _config_without_dropout(folder: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    for name in DROPOUTS:
        if name in vars(config):
            vars(config)[name] = 0.0
    return config


def empty_model(folder: Path) -> PreTrainedModel:
    """The model of `load_model` without its weights, which are on the meta device: to be sharded, then filled.

    See models.sharding.prepare and models.training_checkpoints.load_shards.
    """
    import torch
    import transformers
    from accelerate import init_empty_weights

    config = _config_without_dropout(folder)
    with init_empty_weights(include_buffers=False):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()  # each module has a meta tensor of its own so far
    if (folder / transformers.utils.GENERATION_CONFIG_NAME).is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model.eval()


def load_model(folder: Path, device: str | None = None) -> PreTrainedModel:
    """The causal language model of a transformers folder, float32, without dropout; safetensors only.

    device: by default the GPU if there is one.

    Raises CheckpointError if a file is missing or broken, or where the weights are not exactly the model's
    (transformers would draw the missing ones at random).
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    transformers.utils.logging.disable_progress_bar()
    whole = "fetch or make the model folder again, whole"
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder / 'config.json'} is missing: {whole}")
    try:
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            config=_config_without_dropout(folder),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded ({str(error).splitlines()[0]}): {whole}") from None
    for kind in ("missing_keys", "unexpected_keys"):
        if found[kind]:
            raise CheckpointError(f"{folder}: weights have {kind} {sorted(found[kind])[:3]}, a foreign file: {whole}")
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
