"""A mistake in config.yaml, and the key or name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from prerl.core.errors import UserError


class ConfigError(UserError):
    """A mistake in config.yaml; the message names the key, the value and the remedy."""


def nearest(word: object, words: Iterable[str]) -> str:
    """The end of an error's sentence: "; did you mean 'training'?", or nothing where no word is near."""
    found = difflib.get_close_matches(str(word), words, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
