"""Library of the PreRL/DSRL replication; the scripts beside it are thin and import it from their own folder."""

import sys


class UserError(Exception):
    """What the user can mend; the message names the key or file, the value and the remedy, and is all that is shown."""


def _show(kind, error, traceback) -> None:
    """A script that ends in a UserError says its message; every other error keeps its traceback."""
    if issubclass(kind, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _show
