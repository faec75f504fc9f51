"""download_ood against a hub on loopback: a data set at its revision, what is gated or missing, a resumption."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

SCRIPT = Path(__file__).parents[3] / "workflow_scripts/download_ood.py"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"README.md": b"---\nconfigs: []\n---\n", "data/test.csv": b"q,a\n1,2\n", "run.py": b"print(1)"}


class Hub(BaseHTTPRequestHandler):
    """The data set owner/set. The server has `refusal` (an error code of the hub, or None), `broken` and `asked`."""

    def log_message(self, *arguments):
        """Silent."""

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        name = path.removeprefix(f"/datasets/owner/set/resolve/{REVISION}/")
        if self.server.refusal:
            status = 403 if self.server.refusal == "GatedRepo" else 404
            self.answer(status, X_Error_Code=self.server.refusal, X_Error_Message="refused")
        elif path == f"/api/datasets/owner/set/tree/{REVISION}":
            tree = [{"type": "file", "path": file, "size": len(FILES[file]), "oid": "0" * 40} for file in FILES]
            self.answer(200, json.dumps(tree).encode(), Content_Type="application/json")
        elif name in FILES and name != self.server.broken:
            content = FILES[name]
            self.answer(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=REVISION)
        else:
            code = "EntryNotFound" if name in FILES else "RepoNotFound"
            self.answer(400 if name == self.server.broken else 404, X_Error_Code=code)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.refusal = server.broken = None
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def download(hub, folder: Path, repository="owner/set", **environment) -> subprocess.CompletedProcess:
    """Run the script against the hub; its manifest is folder/set/manifest.json."""
    settings = json.dumps({"repository": repository, "revision": REVISION})
    return subprocess.run(
        [sys.executable, SCRIPT, "--settings", settings, "--state", folder / "state"]
        + ["--manifest", folder / "set/manifest.json"],
        env={
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
            "HF_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_data_files_arrive_with_a_manifest_and_code_does_not(hub, tmp_path):
    done = download(hub, tmp_path)
    assert done.returncode == 0, done.stdout
    files = tmp_path / "set/files"
    assert {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()} == {
        "README.md",
        "data/test.csv",
    }
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert manifest["repository"] == "owner/set" and manifest["revision"] == REVISION
    csv = FILES["data/test.csv"]
    assert manifest["files"]["data/test.csv"] == {"sha256": hashlib.sha256(csv).hexdigest(), "bytes": len(csv)}


def test_an_interrupted_download_goes_on_with_what_is_missing(hub, tmp_path):
    hub.broken = "data/test.csv"
    failed = download(hub, tmp_path)
    assert failed.returncode == 1 and not (tmp_path / "set/manifest.json").exists()
    assert "what arrived is kept" in failed.stdout.splitlines()[-1]
    hub.broken, hub.asked = None, []
    assert download(hub, tmp_path).returncode == 0
    assert [line for line in hub.asked if line.startswith("GET /datasets")] == [
        f"GET /datasets/owner/set/resolve/{REVISION}/data/test.csv"
    ]


@pytest.mark.parametrize(
    ("refusal", "repository", "environment", "words"),
    [
        ("GatedRepo", "owner/set", {}, "accept its terms at http://127.0.0.1"),
        ("RevisionNotFound", "owner/set", {}, "correct the revision in ood.tasks"),
        (None, "owner/other", {}, "correct the repository in ood.tasks"),
        (None, "owner/set", {"HF_HUB_OFFLINE": "1"}, "without HF_HUB_OFFLINE"),
    ],
)
def test_a_refusal_names_the_remedy(hub, tmp_path, refusal, repository, environment, words):
    hub.refusal = refusal
    failed = download(hub, tmp_path, repository, **environment)
    assert failed.returncode == 1 and not (tmp_path / "set/manifest.json").exists()
    line = failed.stdout.splitlines()[-1]
    assert line.startswith(f"error: the data set {repository} at revision {REVISION}") and words in line
