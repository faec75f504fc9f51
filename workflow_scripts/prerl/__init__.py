"""Library of the PreRL/DSRL replication; the scripts beside it are thin and import it from their own folder."""

import os
import signal
import sys
import time


class UserError(Exception):
    """What the user can mend; the message names the key or file, the value and the remedy, and is all that is shown."""


def _show(kind, error, traceback) -> None:
    """A script that ends in a UserError says its message; every other error keeps its traceback.

    Of several processes (launch_ranks.py) one speaks: the first process before the others, which often have the same to
    say, and a UserError before anything else, which often is that the connection to its process is lost. The end of the
    one that has spoken ends the others while they wait.
    """
    user_error = issubclass(kind, UserError)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what the launcher ends it with
        time.sleep((0 if user_error else 20) + (0 if os.environ["RANK"] == "0" else 10))
    if user_error:
        print(f"error: {error}", file=sys.__stderr__, flush=True)  # sys.stderr: torch puts the rank before the line
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _show
