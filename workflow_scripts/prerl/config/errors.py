"""The error for a mistake in config.yaml, and the suggestion of a similar key or name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from prerl.core.errors import UserError


class ConfigError(UserError):
    """A mistake in config.yaml; the message names the key, the value and the remedy."""


def nearest(word: object, words: Iterable[str]) -> str:
    """End of an error message: "; did you mean 'training'?", or "" if no word is similar."""
    found = difflib.get_close_matches(str(word), words, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
