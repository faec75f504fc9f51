"""A file server on loopback that commits one fault a request, as told, and writes down what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ["corrupt", "truncate", "404", "403", "500", "drop", "stall", "ignore range", "other range", "short", "long"]


class FaultServer(ThreadingHTTPServer):
    """Serves the files of `folder`. `faults` holds one for each coming request; after them, `standing` (or none)."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: list[str | None] = []
        self.standing: str | None = None
        self.asked: list[tuple[str, int]] = []  # (file, first byte) of each request
        self.tokens: set[str | None] = set()  # what came as Authorization
        self.sent_bytes = 0
        self.closing = threading.Event()

    def url(self, name: str = "") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request, client_address) -> None:
        """A client that hung up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer

    def log_message(self, *arguments) -> None:
        """Silent."""

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        fault = self.server.faults.pop(0) if self.server.faults else self.server.standing
        assert fault is None or fault in FAULTS, fault
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.asked.append((name, start))
        self.server.tokens.add(self.headers.get("Authorization"))
        file = self.server.folder / name
        if fault in ("404", "403", "500") or not file.is_file():
            self.send_error(int(fault) if fault in ("403", "500") else 404)
            return
        body = file.read_bytes()
        if fault == "corrupt":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        elif fault == "truncate":
            body = body[: len(body) // 2]
        if fault == "ignore range":
            start = 0
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_body(body, start, fault)

    def send_body(self, body: bytes, start: int, fault: str | None) -> None:
        rest = body[start:]
        self.send_response(206 if start else 200)
        if start:
            first = start - 1 if fault == "other range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(rest) + {"short": -100, "long": 100}.get(fault, 0)))
        self.end_headers()
        if fault in ("drop", "stall"):
            rest = rest[: len(rest) // 2]
        self.server.sent_bytes += len(rest)
        self.wfile.write(rest)
        self.wfile.flush()
        if fault == "stall":
            self.server.closing.wait(20)


@contextmanager
def serving(folder: Path) -> Iterator[FaultServer]:
    """A FaultServer of `folder`, in a thread, to the end of the block."""
    server = FaultServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
