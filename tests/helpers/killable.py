"""Jobs that are killed at a chosen point: a server process imports all they need once and forks a child for each.

A point is a stage of an update or a write of the job, counted from 0 and just before it happens: a file opened to
write, fsync, mkdir, rename, link, unlink, rmdir. At a point named `torn` the file to be synced is first cut to half.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir"}  # audit events
STAGES = {"sample_and_grade": "sampling", "measure_spaces": "measuring", "policy_update": "backward"}


class Killer:
    """The side of the test: `run` starts a job in a child of the server and says how it ended."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "killable.py")],
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, script: str, arguments: list[str], folder: Path, at: int | None = None, after_s: float | None = None
    ) -> dict:
        """Run main() of a workflow script, killed at point `at` or after `after_s` seconds.

        folder: all that the job writes lies below it; its log and the updates that it did go to `folder`.log and
        .updates. Returns {"code": exit code or minus the signal, "points": names, of a whole run, "seconds"}.
        """
        request = {"script": script, "arguments": arguments, "folder": str(folder), "at": at, "after_s": after_s}
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())


def spread(killers: list[Killer], function: Callable, items: Iterable) -> list:
    """[function(killer, item) …], one thread a killer."""
    free: queue.SimpleQueue[Killer] = queue.SimpleQueue()
    for killer in killers:
        free.put(killer)

    def one(item):
        killer = free.get()
        try:
            return function(killer, item)
        finally:
            free.put(killer)

    with ThreadPoolExecutor(len(killers)) as pool:
        return list(pool.map(one, items))


class Points:
    """The child's counter: dies at point `at`."""

    def __init__(self, folder: str, at: int | None) -> None:
        self.folder, self.at = folder, at
        self.names: list[str] = []

    def reach(self, name: str, before_death: Callable[[], None] = lambda: None) -> None:
        if len(self.names) == self.at:
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)

    def audit(self, event: str, arguments: tuple) -> None:
        """Python's audit hook: called before each operation on files."""
        if event == "open":
            if arguments[2] & (os.O_WRONLY | os.O_RDWR) and self.owns(arguments[0]):
                self.reach("open")
        elif event in CHANGES and (any(map(self.owns, arguments)) or arguments[-1] != -1):  # rmtree's are relative
            self.reach(event.removeprefix("os."))

    def owns(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder)

    def watch(self) -> None:
        """Count from now on."""
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            self.reach("fsync")
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # just written; a link's file is on the disk
                file = f"/proc/self/fd/{descriptor}"
                self.reach("torn", lambda: os.truncate(file, status.st_size // 2))
            fsync(descriptor)

        os.fsync = counted
        sys.addaudithook(self.audit)


def watch_updates(points: Points, updates: int) -> None:
    """Points at the stages of an update; each finished update is written to the descriptor `updates`."""
    import torch

    from prerl.training import trainer

    def before(owner: object, function: str, name: str) -> None:
        original = getattr(owner, function)

        def counted(*arguments, **names):
            points.reach(name)
            return original(*arguments, **names)

        setattr(owner, function, counted)

    for function, name in STAGES.items():
        before(trainer, function, name)
    before(torch.optim.AdamW, "step", "optimizer step")
    step = trainer.Trainer.step

    def noted(self, update: int) -> dict:
        row = step(self, update)
        os.write(updates, f"{update}\n".encode())
        points.reach("update done")
        return row

    trainer.Trainer.step = noted


def child(request: dict) -> None:
    """Run the job; ends with its points in `folder`.points."""
    folder = request["folder"]
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    points = Points(folder + "/", request["at"])
    if request["script"] == "train_policy":
        watch_updates(points, os.open(f"{folder}.updates", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    points.watch()
    sys.argv = [request["script"], *request["arguments"]]
    importlib.import_module(request["script"]).main()
    Path(f"{folder}.points").write_text(json.dumps(points.names))


def serve() -> None:
    """Answer each line of stdin (Killer.run) with a line of stdout."""
    for script in ("train_policy", "reincarnate_policy", "generate_samples", "pretrain_miniature_model"):
        importlib.import_module(script)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                child(request)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        if request["after_s"] is not None:
            time.sleep(request["after_s"])
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        points = json.loads(Path(f"{request['folder']}.points").read_text()) if code == 0 else None
        print(json.dumps({"code": code, "points": points, "seconds": time.monotonic() - started}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1] / "workflow_scripts"))
    serve()
