"""Rewards and thought rules that are functions of a file, called in workers that can be killed.

A fault of the function is an error that shows the answer, never a zero. `math_verify` alone is expected to fail on
what models write: its failures are not right, and counted apart.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import prerl
from prerl.config.functions import BOXED, MATH_VERIFY, SEAL, RewardSettings, ThoughtSettings, file_of
from prerl.core.errors import UserError
from prerl.core.killable import Failed, NotStarted, Pool
from prerl.rollouts.rewards import hendrycks_reward
from prerl.rollouts.thoughts import ThoughtCounter, ThoughtCounts

SCRIPTS = Path(prerl.__path__[0]).parent
ROUNDING = 1e-9  # by which a sum of parts may exceed 1


class FunctionError(UserError):
    """A function of the user's that failed; the message names it, what it did, the answer and the remedy."""


class Score(NamedTuple):
    """A reward in [0, 1] and its named parts, or {"unscorable": 0 or 1} of math_verify."""

    value: float
    parts: dict[str, float]


def load_function(file: str, name: str) -> Callable:
    """The function `name` of a Python file, which may import modules that lie beside it."""
    sys.path.append(str(Path(file).resolve().parent))
    spec = importlib.util.spec_from_file_location(f"functions_of_{Path(file).stem}", file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def checked_score(returned: object) -> Score:
    """What a reward function returned: a number, or (name, number) pairs whose sum is the reward.

    Raises TypeError or ValueError that say what to return.

    >>> checked_score([("right", 0.75), ("short", 0.25)]).value
    1.0
    """
    parts: dict[str, float] = {}
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        for pair in returned:
            if not (isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[0], str)):
                raise TypeError(f"it returned {returned!r}; return a number, or a list of (name, number) pairs")
            if pair[0] in parts or pair[0] in ("mean", "unscorable") or not pair[0].isidentifier():
                raise ValueError(f"a part is named {pair[0]!r}; give each a name of its own, of letters, digits and _")
            parts[pair[0]] = _number(pair[1])
        value = math.fsum(parts.values())
    else:
        value = _number(returned)
    if not 0 <= value <= 1 + ROUNDING:
        raise ValueError(f"it returned {returned!r}; a reward lies in [0, 1]: divide by its largest value")
    return Score(min(value, 1.0), parts)


def _number(value: object) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"it returned {value!r}, a {type(value).__name__}; return a number, or (name, number) pairs")
    if not math.isfinite(value):
        raise ValueError(f"it returned {value!r}; return a finite number")
    return float(value)


def checked_counts(returned: object) -> ThoughtCounts:
    """What a thought rule returned: {"reflections": n, "transitions": n, "executions": n}."""
    if (
        not isinstance(returned, Mapping)
        or set(returned) != set(ThoughtCounts._fields)
        or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in returned.values())
    ):
        raise ValueError(
            f"it returned {returned!r}; return a dictionary with the counts {', '.join(ThoughtCounts._fields)}"
        )
    return ThoughtCounts(**returned)


def _call(function: Callable, check: Callable, fixed: dict, *arguments: object) -> object:
    return check(function(*arguments, **fixed))


def _load(file: str, name: str, check: Callable, fixed: dict) -> Callable:
    """In a worker: the function with the check of what it returns."""
    return partial(_call, load_function(file, name), check, fixed)


class FunctionPool:
    """A configured function in `workers` processes, which are kept from call to call."""

    def __init__(
        self,
        block: str,
        settings: RewardSettings | ThoughtSettings,
        check: Callable,
        workers: int,
        fixed: dict | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        located = file_of(settings.function, SCRIPTS)
        assert located is not None, settings.function
        self.block, self.function = block, settings.function
        load = partial(_load, str(located[0]), located[1], check, fixed or {})
        self.pool = Pool(load, workers, settings.time_limit_s, preload)

    def run(self, tasks: Sequence[tuple]) -> list:
        """Checked results, or Failed. Raises FunctionError if the file cannot be loaded."""
        try:
            return self.pool.run(tasks)
        except NotStarted as error:
            raise FunctionError(
                f"{self.block}.function: {self.function} cannot be loaded: {error}; correct it"
            ) from None

    def fault(self, failed: Failed, text: str, about: str) -> FunctionError:
        """The error of a task that failed."""
        stopped = failed.why.startswith("stopped")
        remedy = f"make it faster, or raise {self.block}.time_limit_s" if stopped else "correct it"
        return FunctionError(
            f"{self.block}.function: {self.function} {failed.why} on {about}; {remedy}. The answer: {text!r}"
        )


def problem_row(problem: Mapping) -> dict:
    """What a reward function gets as `row`: the problem's columns, and of one's own data the file's further ones."""
    further = problem.get("row")
    return (json.loads(further) if further else {}) | {key: value for key, value in problem.items() if key != "row"}


class Reward:
    """The configured reward of answers, the same in training and in grading. settings: None is `boxed`."""

    def __init__(self, settings: RewardSettings | None, workers: int) -> None:
        self.pool: FunctionPool | None = None
        self.parts: list[str] | None = None  # names, which every answer must have
        if settings is not None and settings.function != BOXED:
            self.expects_failures = settings.function == MATH_VERIFY
            fixed = {} if settings.pattern is None else {"pattern": settings.pattern}
            preload = ["math_verify"] if self.expects_failures else []
            self.pool = FunctionPool("reward", settings, checked_score, workers, fixed, preload)

    def score(self, texts: Sequence[str], problems: Sequence[Mapping]) -> list[Score]:
        """A score for each answer; problems: of each answer, its row of a problem file. Raises FunctionError."""
        if self.pool is None:
            return [Score(hendrycks_reward(text, p["answer"]), {}) for text, p in zip(texts, problems, strict=True)]
        results = self.pool.run([(text, p["answer"], problem_row(p)) for text, p in zip(texts, problems, strict=True)])
        checked = self._unscorable if self.expects_failures else self._faultless
        return [
            checked(self.pool, result, text, f"an answer to {problem['id']}")
            for result, text, problem in zip(results, texts, problems, strict=True)
        ]

    def _unscorable(self, pool: FunctionPool, result: Score | Failed, text: str, about: str) -> Score:
        if not isinstance(result, Failed):
            return Score(result.value, {"unscorable": 0.0})
        print(f"unscorable, {result.why:.100}: {about}", flush=True)
        return Score(0.0, {"unscorable": 1.0})

    def _faultless(self, pool: FunctionPool, result: Score | Failed, text: str, about: str) -> Score:
        if isinstance(result, Failed):
            raise pool.fault(result, text, about)
        names = list(result.parts)
        self.parts = names if self.parts is None else self.parts
        if names != self.parts:
            raise pool.fault(Failed(f"returned the parts {names}, and before {self.parts},"), text, about)
        return result


class FunctionCounter:
    """Thoughts by a function of the user's: text of an answer -> counts."""

    def __init__(self, settings: ThoughtSettings, workers: int) -> None:
        self.pool = FunctionPool("thoughts", settings, checked_counts, workers)

    def count_all(self, token_ids: Sequence[Sequence[int]], texts: Sequence[str]) -> list[ThoughtCounts]:
        """Counts of each answer. Raises FunctionError."""
        results = self.pool.run([(text,) for text in texts])
        for result, text in zip(results, texts, strict=True):
            if isinstance(result, Failed):
                raise self.pool.fault(result, text, "an answer")
        return results


def thought_counter(settings: ThoughtSettings | None, tokenizer: Any, workers: int) -> ThoughtCounter | FunctionCounter:
    """The configured rule; settings: None is `seal`, which needs the tokenizer."""
    if settings is None or settings.function == SEAL:
        return ThoughtCounter.of(tokenizer)
    return FunctionCounter(settings, workers)


def threads() -> int:
    """Cores of the job, and so the number of its workers."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "1")))
