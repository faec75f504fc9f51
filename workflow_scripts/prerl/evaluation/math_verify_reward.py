"""The second grader as a training reward: 1.0 for "right". What it cannot score raises, and counts as unscorable."""

import importlib
import logging

from prerl.evaluation.grading import RIGHT, UNSCORABLE, verify_boxed
from prerl.rollouts.rewards import last_boxed

importlib.import_module("math_verify")  # takes seconds: before the first answer, whose time is limited
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off


def math_verify(text: str, answer: str, row: dict) -> float:
    """Whether math-verify takes the last box of `text` for `answer`, with unit and tolerance of the row.

    Raises ValueError on a truth that does not parse, and what SymPy raises.
    """
    boxed = last_boxed(text)
    if boxed is None:
        return 0.0
    verdict = verify_boxed(boxed, answer, row.get("unit"), row.get("tolerance"))
    if verdict == UNSCORABLE:
        raise ValueError(f"the truth {answer!r} does not parse")
    return float(verdict == RIGHT)
