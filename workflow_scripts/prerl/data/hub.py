"""A model of the Hugging Face hub at one revision: list, download and check its files, publish them as a sealed folder.

The hub's client lists files and checksums and finds endpoint (HF_ENDPOINT), token (HF_TOKEN) and cache.
The bytes come through prerl.data.downloads: the client (2.4.0) deletes a partial file when a download breaks.
Only safetensors and plain text files are downloaded, nothing that could run code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from prerl.core.constants import GIB
from prerl.core.files import lock_folder, remove_folder, write_json
from prerl.data.downloads import Address, DownloadError, Patience, difference, fetch
from prerl.models.checkpoints import link_or_copy, new_folder

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
INDEX = "model.safetensors.index.json"
PLAIN = {
    INDEX,
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
}
SOURCE = "source.json"  # repository and revision, beside the model's files


@dataclass(frozen=True)
class HubModel:
    """repository: owner/name. revision: the 40 hex digits of a commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repository} at revision {self.revision}"


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it. digest: sha256 of a large file (LFS), git's id of a small one."""

    name: str
    size: int
    digest: str


def download_model(
    model: HubModel, folder: Path, state: Path, patience: Patience, check: Callable[[Path], object]
) -> None:
    """Publish `model` as `folder`, sealed (models.checkpoints), once `check` accepts it and every checksum is right.

    Args:
        state: keeps what has arrived, each file under its digest, if the job dies; removed at the end.
        check: called on a folder of the configuration and tokenizer alone, before the weights are fetched.

    Raises DownloadError, FileError on a full disk, FolderInUseError, and those of `check`; `folder` is then unchanged.
    """
    held = lock_folder(state)
    files = list_files(model, patience)
    missing = [file for file in files if not _found(model, file, folder, state)]
    have = sum(file.size for file in files) - sum(file.size for file in missing)
    print(f"{model}: {len(files)} files, {have / GIB:.2f} GiB of them already here", flush=True)
    _require_room(model, files, missing, folder, state)
    if missing:
        _require_access(model, missing[0], patience)
    for file in missing:
        if file.name in PLAIN:
            _fetch(model, file, state / file.digest, patience)
    with TemporaryDirectory(dir=state) as name:
        for file in files:
            if file.name in PLAIN:
                link_or_copy(state / file.digest, Path(name) / file.name)
        check(Path(name))
    for file in missing:
        if file.name not in PLAIN:
            _fetch(model, file, state / file.digest, patience)
    with new_folder(folder, sum(file.size for file in files)) as temporary:
        for file in files:
            link_or_copy(state / file.digest, temporary / file.name)
        _require_shards(model, temporary)
        write_json(temporary / SOURCE, asdict(model))
    remove_folder(state)
    held.close()


def published(model: HubModel, manifest: Path) -> Path:
    """The folder of a published model, checked by names and sizes only: quick; checkpoints.verify reads every byte.

    Raises DownloadError if it is missing, incomplete or of another revision.
    """
    folder = manifest.parent
    remedy = f"fetch it, `snakemake --cores 1 --config scale=… -- {manifest}`"
    if not manifest.is_file():
        raise DownloadError(f"{model} is not in {folder}: {remedy}")
    found = HubModel(**json.loads((folder / SOURCE).read_bytes()))
    if found != model:
        raise DownloadError(f"{folder} holds {found}, the configuration names {model}: {remedy}")
    for name, entry in json.loads(manifest.read_bytes())["files"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != entry["bytes"]:
            raise DownloadError(f"{folder / name} is missing or has the wrong size: delete {manifest} and {remedy}")
    return folder


def list_files(model: HubModel, patience: Patience) -> list[HubFile]:
    """The files to fetch: safetensors weights, configuration, tokenizer, chat template. Raises DownloadError."""
    with _explained(model):
        info = HfApi().model_info(
            model.repository, revision=model.revision, files_metadata=True, timeout=patience.timeout_s
        )
    listed = info.siblings or []
    if info.sha != model.revision or any(file.size is None or file.blob_id is None for file in listed):
        raise DownloadError(
            f"{HfApi().endpoint} returns revision {info.sha} for {model}, or no sizes and checksums of files: it is "
            "not a complete mirror of the hub; set HF_ENDPOINT to another or unset it"
        )
    names = {file.rfilename for file in listed}
    if not any(WEIGHTS.fullmatch(name) for name in names):
        raise DownloadError(
            f"{model} has no safetensors weights (model.safetensors) among {sorted(names)[:8]}: other formats can run "
            "code when they are loaded and are not read; name a repository or revision with safetensors in models"
        )
    files = [file for file in listed if WEIGHTS.fullmatch(file.rfilename) or file.rfilename in PLAIN]
    return [HubFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in files]


def _found(model: HubModel, file: HubFile, folder: Path, state: Path) -> bool:
    """Whether the file is complete in `state`; one in the published folder or the user's hub cache is linked."""
    kept = state / file.digest
    cached = try_to_load_from_cache(model.repository, file.name, revision=model.revision)
    places = [kept, folder / file.name, *([Path(cached).resolve()] if isinstance(cached, str) else [])]
    for place in places:
        if place.is_file() and place.stat().st_size == file.size:
            wrong = difference(place, file.digest)
            if not wrong:
                if place != kept:
                    kept.unlink(missing_ok=True)
                    link_or_copy(place, kept)
                return True
            print(f"{place} is damaged ({wrong}): not used", flush=True)
            if place == kept:
                kept.unlink()
    return False


def _require_room(model: HubModel, files: list[HubFile], missing: list[HubFile], folder: Path, state: Path) -> None:
    """Before the first byte: check for room for what is missing and, if links are not possible, for the copies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = sum((state / file.digest).stat().st_size for file in missing if (state / file.digest).is_file())
    needs = {state: sum(file.size for file in missing) - partial}
    if state.stat().st_dev != folder.parent.stat().st_dev:
        needs[folder.parent] = sum(file.size for file in files)
    for place, needed in needs.items():
        free = shutil.disk_usage(place).free
        if free < needed:
            raise DownloadError(
                f"{place.resolve()} has {free / GIB:.2f} GiB free and {model} needs {needed / GIB:.2f} GiB more there: "
                "make room, or make `results` a link to a folder on a larger disk, and run the same command again"
            )


def _require_access(model: HubModel, file: HubFile, patience: Patience) -> None:
    """The hub lists a gated model's files to everyone but refuses their bytes."""
    with _explained(model):
        get_hf_file_metadata(_url(model, file), timeout=patience.timeout_s, retry_on_errors=True)


def _fetch(model: HubModel, file: HubFile, partial: Path, patience: Patience) -> None:
    """Download one file and check it. requests drops the token when the hub redirects to another host."""
    address = Address(
        _url(model, file),
        refused=f"{_access_remedy(model)}; otherwise rerun when it answers or set HF_ENDPOINT to a mirror",
        wrong=f"{file.name} was damaged in transit: rerun, and if it recurs set HF_ENDPOINT to another mirror",
        headers=build_hf_headers(),
    )
    print(f"{file.name}: {file.size / GIB:.2f} GiB", flush=True)
    if not fetch(address, file.digest, partial, patience):
        raise DownloadError(f"{address.url}: listed, but not there (404); rerun, or set HF_ENDPOINT to a mirror")


def _url(model: HubModel, file: HubFile) -> str:
    return hf_hub_url(model.repository, file.name, revision=model.revision)


def _require_shards(model: HubModel, folder: Path) -> None:
    """Check that every shard of the index is there; several shards without an index cannot be loaded."""
    weights = {path.name for path in folder.iterdir() if WEIGHTS.fullmatch(path.name)}
    index, named = folder / INDEX, {"model.safetensors"}
    if index.is_file():
        named = set(json.loads(index.read_bytes())["weight_map"].values())
    if named - weights:
        raise DownloadError(
            f"{model} is incomplete: it has no {', '.join(sorted(named - weights))}; name another revision in models"
        )


def _access_remedy(model: HubModel) -> str:
    """What to do about a gated or private model; the token itself is never shown."""
    known = "the token that is set has no access" if get_token() else "no token is set"
    return (
        f"if it is gated or private ({known}), ask for access at {HfApi().endpoint}/{model.repository} and set "
        "HF_TOKEN to a token of that account"
    )


@contextmanager
def _explained(model: HubModel) -> Iterator[None]:
    """Turn the client's errors into a DownloadError with the remedy."""
    endpoint = HfApi().endpoint
    try:
        yield
    except OfflineModeIsEnabled:
        names = " and ".join(name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name))
        raise DownloadError(f"{model}: {names} is set, so nothing can be fetched: unset it for the download") from None
    except GatedRepoError:
        raise DownloadError(f"{model} is gated or private: {_access_remedy(model)}") from None
    except RevisionNotFoundError:
        raise DownloadError(
            f"{model.repository} has no revision {model.revision}: correct hub.revision of the model in the "
            f"configuration (the commits: {endpoint}/{model.repository}/commits/main)"
        ) from None
    except RepositoryNotFoundError:
        raise DownloadError(
            f"{endpoint} has no model {model.repository}: correct hub.repository in the configuration; "
            f"{_access_remedy(model)}"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = f"{endpoint} refuses {model} with {status} {error.response.reason_phrase}"
        remedy = _access_remedy(model) if status in (401, 403) else "rerun when it answers, or set HF_ENDPOINT"
        raise DownloadError(f"{reason}: {remedy}") from None
    except httpx2.TransportError as error:
        raise DownloadError(
            f"{endpoint} cannot be reached for {model} ({type(error).__name__}: {error}): run this where there is a "
            "network (on a cluster the login node), with HTTPS_PROXY for a proxy, or set HF_ENDPOINT to a mirror"
        ) from None
    except json.JSONDecodeError:
        raise DownloadError(
            f"{endpoint} does not answer like a hub: correct HF_ENDPOINT, or log in to the network's portal"
        ) from None
