"""Download the data set of a benchmark from the Hugging Face hub at one revision (rule download_ood, login node)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import httpx2
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from prerl.core.errors import UserError, run_main
from prerl.core.files import delete, lock_folder, write_json
from prerl.core.hashes import sha256_of

DATA = ["*.md", "*.parquet", "*.csv", "*.json", "*.jsonl"]  # the card names the split of each file; nothing executable


def fetch(repository: str, revision: str, folder: Path) -> None:
    """Download the data set's files into `folder`; files already there are kept. Raises UserError."""
    name, page = f"the data set {repository} at revision {revision}", f"{constants.ENDPOINT}/datasets/{repository}"
    try:
        snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=DATA, local_dir=folder, max_workers=4
        )
    except GatedRepoError:
        raise UserError(
            f"{name} is gated or private: accept its terms at {page} and set HF_TOKEN to a token of that "
            "account; or take its entry out of ood.tasks"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{name} does not exist: correct the revision in ood.tasks ({page}/commits/main)") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{name} does not exist, or is private: correct the repository in ood.tasks, or set HF_TOKEN to a token "
            "that may read it"
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.TransportError, HfHubHTTPError) as error:
        raise UserError(
            f"{name} cannot be fetched ({str(error).splitlines()[0]}): run this where the network is (on a cluster the "
            "login node), without HF_HUB_OFFLINE, or set HF_ENDPOINT to a mirror; what arrived is kept"
        ) from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: repository, revision")
    parser.add_argument("--state", required=True, type=Path, help="folder of partial downloads, no output")
    parser.add_argument("--manifest", required=True, type=Path, help="written last, beside the folder `files`")
    arguments = parser.parse_args()
    source, target = arguments.settings, arguments.manifest.parent / "files"
    state = arguments.state / arguments.manifest.parent.name
    with lock_folder(state):
        arrived = state / source["revision"]
        fetch(source["repository"], source["revision"], arrived)
        delete(arrived / ".cache")  # the client's bookkeeping
        if target.exists():
            delete(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        arrived.rename(target)
    files = {
        str(path.relative_to(target)): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }
    if not files:
        raise UserError(f"{source['repository']} at {source['revision']} holds no data file ({', '.join(DATA)})")
    write_json(arguments.manifest, source | {"files": files})
    print(f"{len(files)} files of {source['repository']} at {source['revision']} -> {target}")


if __name__ == "__main__":
    run_main(main)
