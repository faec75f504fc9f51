"""Checkpoints: an ordinary transformers folder plus optimizer moments and progress, written atomically.

A folder is written under a temporary name, every file synced, `manifest.json` (sha256 and size of each file) last, then
renamed; a reader so sees a whole checkpoint or none. Weights and moments are safetensors: loading runs no code.
This module imports torch only where tensors are read or written, so that `reincarnate_policy` starts fast.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
from pathlib import Path
from typing import TextIO

MANIFEST = "manifest.json"
OPTIMIZER = "optimizer.safetensors"
PROGRESS = "progress.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message names the file and the remedy."""


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderInUseError(RuntimeError):
    """Another process holds the folder; the message names it and the remedy."""


def hold(folder: Path) -> TextIO:
    """Lock `folder` for this process until the returned file is closed or the process ends, by `kill -9` too.

    A POSIX record lock on `folder`/lock: the kernel releases it, forked helpers do not inherit it, Linux hands it on to
    an NFS server. Raises FolderInUseError at once where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows both
        file.seek(0)
        holder = file.read()
        file.close()
        raise FolderInUseError(
            f"{folder} is in use by {holder}: wait for that job to end, or end it there by `kill`; then start this one "
            "again, it goes on where that one stopped"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def temporary_name(path: Path) -> Path:
    """A sibling of `path` to write before it takes that name; what killed writers of `path` left is removed."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.tmp*"):
        delete(leftover)
    return path.with_name(f".{path.name}.tmp{os.getpid()}")


def delete(path: Path) -> None:
    """Delete a file or a folder that no reader looks for."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_folder(folder: Path) -> None:
    """Remove `folder` from its place by one rename, so that a kill leaves it whole or gone, then delete it."""
    gone = temporary_name(folder)
    folder.rename(gone)
    delete(gone)


def write_json(path: Path, value: object) -> None:
    """Atomic and synced: temporary name, fsync, rename."""
    temporary = temporary_name(path)
    with temporary.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seal(folder: Path) -> None:
    """Sync every file of `folder` and write its manifest, last."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            _sync(path)
            files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    write_json(folder / MANIFEST, {"files": files})
    _sync(folder)


def commit(temporary: Path, folder: Path) -> None:
    """Seal `temporary` and rename it to `folder`; what stood there moves aside first and is deleted last."""
    seal(temporary)
    replaced = temporary.with_name(f"{temporary.name}.replaced")
    if folder.exists():
        folder.rename(replaced)
    temporary.rename(folder)
    _sync(folder.parent)
    if replaced.exists():
        delete(replaced)


def temporary_folder(folder: Path) -> Path:
    """A fresh sibling of `folder` to write into; leftovers of killed writers of the same folder are removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(folder)
    temporary.mkdir()
    return temporary


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
    for name, (size, sha256) in expected.items():
        path = manifest.parent / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing though {manifest} lists it: {remedy}")
        if path.stat().st_size != size or sha256_of(path) != sha256:
            raise CheckpointError(f"{path} is damaged (size or sha256 differs from {manifest}): {remedy}")
    return manifest.parent


def link_files(source: Path, names: list[str], folder: Path) -> None:
    """Publish files of a checkpoint as a new sealed folder by hard links (a copy where links are not possible)."""
    temporary = temporary_folder(folder)
    for name in names:
        try:
            os.link(source / name, temporary / name)
        except OSError:
            shutil.copy2(source / name, temporary / name)
    commit(temporary, folder)


def save_checkpoint(folder: Path, model, tokenizer, optimizer, progress: dict) -> None:
    """Weights, tokenizer, AdamW moments (by parameter name) and progress as one sealed folder."""
    from safetensors.torch import save_file

    temporary = temporary_folder(folder)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    moments = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}|{key}"] = value.detach().contiguous().cpu()
    if moments:
        save_file(moments, temporary / OPTIMIZER)
    write_json(temporary / PROGRESS, progress)
    commit(temporary, folder)


def load_model(folder: Path):
    """The causal language model of a transformers folder, float32, on the GPU if there is one; safetensors only."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def load_optimizer(folder: Path, model, optimizer) -> None:
    """AdamW moments by parameter name; nothing to do where the checkpoint holds none (a fresh start).

    Raises CheckpointError where the names do not fit the model.
    """
    from safetensors.torch import load_file

    path = folder / OPTIMIZER
    if not path.is_file():
        return
    moments = load_file(path)
    for name, parameter in model.named_parameters():
        state = {
            key: moments.pop(f"{name}|{key}") for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}|{key}" in moments
        }
        if not state:
            continue
        if state["exp_avg"].shape != parameter.shape:
            raise CheckpointError(
                f"{path}: moments of {name} are of another shape than the model, a foreign checkpoint: {RERUN}"
            )
        optimizer.state[parameter] = {
            key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
        }
    if moments:
        raise CheckpointError(
            f"{path} holds moments of {sorted(moments)[:3]}, unknown to this model, a foreign checkpoint: {RERUN}"
        )
