"""A page on this machine alone that follows a run: jobs, rewards, lengths, answers of the last update. `make watch`.

It rereads the state folders of results/{scale} at each question of the page, and changes nothing. Only this machine can
reach it (127.0.0.1), and only under that name: another site's page in the same browser can not.
"""

from __future__ import annotations

import argparse
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prerl.core.errors import UserError, run_main
from prerl.publishing.page import watch_page
from prerl.publishing.watching import situation

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"


class Watcher(ThreadingHTTPServer):
    """Serves the page of one run."""

    daemon_threads = True

    def __init__(self, results: Path, port: int) -> None:
        super().__init__((HOST, port), Handler)
        self.results = results
        self.page = watch_page(results.name)

    @property
    def address(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """`/` is the page, `/situation` what it shows."""

    server: Watcher

    def do_GET(self) -> None:
        """Answer; a request under another name than this machine's (DNS rebinding) is refused."""
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN, f"open http://{HOST}:{port}/")
        elif self.path == "/":
            self.reply(self.server.page, "text/html; charset=utf-8")
        elif self.path == "/situation":
            self.reply(json.dumps(situation(self.server.results), allow_nan=False), "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def reply(self, text: str, kind: str) -> None:
        """Send `text`, not to be kept by the browser."""
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of single requests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", required=True, help="the run in results/{scale}")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    arguments = parser.parse_args()
    results = ROOT / "results" / arguments.scale
    if not results.is_dir():
        raise UserError(f"results/{arguments.scale} does not exist: start the run first, or name another --scale")
    try:
        watcher = Watcher(results, arguments.port)
    except OSError as error:
        raise UserError(f"port {arguments.port}: {error.strerror}: give another with --port, or 0 for any") from None
    print(f"Open {watcher.address} ; Ctrl-C ends it, and not the run", flush=True)
    try:
        watcher.serve_forever()
    except KeyboardInterrupt:
        watcher.server_close()


if __name__ == "__main__":
    run_main(main)
