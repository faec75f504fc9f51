"""As much of the Hugging Face hub on loopback as a download asks for: a model's listing, HEAD and GET of its files.

Large files (LFS) are redirected to a second server on another port, as the hub does to its storage: a FaultServer,
which commits faults and counts bytes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from fault_server import FaultServer, serving

REPOSITORY, REVISION, TOKEN = "owner/tiny", "0123456789abcdef0123456789abcdef01234567", "hf_secretOfTheTest"


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin")) or name == "tokenizer.json"


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(ThreadingHTTPServer):
    """One repository with one revision: the files of `storage`'s folder.

    gated: the bytes go to those who send TOKEN. refusal: answer of the listing instead of itself, a status or "html".
    """

    daemon_threads = True

    def __init__(self, storage: FaultServer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.storage = storage
        self.gated = False
        self.refusal: str | None = None
        self.lists_blobs = True
        self.asked: list[str] = []  # "METHOD path" of each request

    @property
    def folder(self) -> Path:
        return self.storage.folder

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is part of the tests."""

    def listing(self) -> dict:
        siblings = []
        for file in sorted(self.folder.iterdir()):
            entry = {"rfilename": file.name}
            if self.lists_blobs:
                content = file.read_bytes()
                entry |= {"size": len(content), "blobId": git_id(content)}
                if is_large(file.name):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": REPOSITORY, "sha": REVISION, "siblings": siblings}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments) -> None:
        """Silent."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        if path == f"/api/models/{REPOSITORY}/revision/{REVISION}":
            if self.server.refusal == "html":
                self.answer(200, b"<html>Log in to this network</html>", Content_Type="text/html")
            elif self.server.refusal:
                self.answer(int(self.server.refusal))
            else:
                self.answer(200, json.dumps(self.server.listing()).encode(), Content_Type="application/json")
        elif path.startswith((f"/api/models/{REPOSITORY}/", f"/{REPOSITORY}/")):
            name = path.removeprefix(f"/{REPOSITORY}/resolve/{REVISION}/")
            if name == path:
                self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            else:
                self.file(name)
        else:
            self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    def file(self, name: str) -> None:
        sent = self.headers.get("Authorization")
        if self.server.gated and sent != f"Bearer {TOKEN}":
            self.answer(403 if sent else 401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
            return
        content = (self.server.folder / name).read_bytes()
        if is_large(name):
            linked = {"X_Linked_Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Linked_Size": str(len(content))}
            self.answer(302, X_Repo_Commit=REVISION, Location=self.server.storage.url(name), **linked)
        else:
            self.answer(200, content, X_Repo_Commit=REVISION, ETag=f'"{git_id(content)}"')


@contextmanager
def hub_of(folder: Path) -> Iterator[Hub]:
    """A Hub of the files in `folder`, in threads, to the end of the block."""
    with serving(folder) as storage:
        hub = Hub(storage)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
            hub.server_close()
