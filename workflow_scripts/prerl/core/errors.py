"""Errors that a user can mend, and how a script ends with one."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import TracebackType

from prerl.core.provenance import record_path, write_record


class UserError(Exception):
    """What the user can mend; the message names the key or file, the value and the remedy, and is all that is shown."""


def run_main(main: Callable[[], int | None], recorded: bool = True) -> None:
    """Run a script's main(): a UserError ends it with one line, `error: …`; every other error keeps its traceback.

    A job that succeeds leaves a record (prerl.core.provenance) unless another process of it does.
    """
    sys.excepthook = _show
    start = time.time()
    path = record_path() if recorded else None  # what is wrong with it shows before the work
    code = main()
    if code:
        sys.exit(code)
    if path:
        write_record(path, start)


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Exception hook. Under launch_ranks.py only one rank prints its error.

    Rank 0 goes first, because the others often fail for the same reason, and a UserError goes before anything else,
    which is often just a lost connection to the rank that raised it. The first rank to exit makes the launcher end the
    others while they wait.
    """
    user_error = issubclass(kind, UserError)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the launcher ends it with
        time.sleep((0 if user_error else 20) + (0 if os.environ["RANK"] == "0" else 10))
    if user_error:
        print(f"error: {error}", file=sys.__stderr__, flush=True)  # sys.stderr: torch puts the rank before the line
    else:
        sys.__excepthook__(kind, error, traceback)
