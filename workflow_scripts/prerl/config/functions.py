"""Blocks `reward` and `thoughts`: the rules for answers, built in or a function in a file of the user's."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prerl.config.key import POSITIVE, TEXT, Limits, key

BOXED, MATH_VERIFY, PATTERN, SEAL = "boxed", "math_verify", "pattern", "seal"
BUILT_IN_FILES = {
    MATH_VERIFY: "prerl/evaluation/math_verify_reward.py",
    "number": "prerl/rollouts/built_in_rewards.py",
    PATTERN: "prerl/rollouts/built_in_rewards.py",
}
"""Reward -> its file under workflow_scripts/, with a function of its name. `boxed` is the trainer's own."""

_IN_A_FILE = r"[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*"
REWARD = Limits(
    pattern=f"^({'|'.join([BOXED, *BUILT_IN_FILES])}|{_IN_A_FILE})$",
    remedy=f"give {', '.join([BOXED, *BUILT_IN_FILES])}, or FILE.py:FUNCTION",
)
THOUGHTS = Limits(pattern=f"^({SEAL}|{_IN_A_FILE})$", remedy=f"give {SEAL}, or FILE.py:FUNCTION")


@dataclass(frozen=True)
class RewardSettings:
    """The training reward of an answer, a number from 0 to 1; above one half the answer counts as right."""

    function: str = key(
        "`boxed`: Hendrycks equality of the last box; `math_verify`: the second grader; `number`: the last number, "
        "exactly; `pattern`; or a function of yours, docs/extending.md",
        REWARD,
        source="boxed (A)",
    )
    pattern: str | None = key(
        "of `pattern`: a regular expression with one group, whose last match is the answer", TEXT, optional=True
    )
    time_limit_s: float = key("per answer, of any but `boxed`", POSITIVE, unit="s")


@dataclass(frozen=True)
class ThoughtSettings:
    """The rule that counts reflections and transitions."""

    function: str = key("`seal`, or a function of yours, docs/extending.md", THOUGHTS, source="seal (D)")
    time_limit_s: float = key("per answer, of a function of yours", POSITIVE, unit="s")


def file_of(function: str, scripts: Path) -> tuple[Path, str] | None:
    """File and name of the function that workers load; None for `boxed` and `seal`. scripts: workflow_scripts/."""
    if function in (BOXED, SEAL):
        return None
    if function in BUILT_IN_FILES:
        return scripts / BUILT_IN_FILES[function], function
    file, name = function.rsplit(":", 1)
    return Path(file), name


def function_faults(block: Mapping) -> list[str]:
    """A file or function that is not there, and a pattern without its reward or the reverse."""
    faults = []
    for name in ("reward", "thoughts"):
        function = block[name]["function"]
        if ":" in function and (fault := _file_fault(*function.rsplit(":", 1))):
            faults.append(f"{name}.function: {fault}")
    function, pattern = block["reward"]["function"], block["reward"].get("pattern")
    if (function == PATTERN) is (pattern is None):
        faults.append(
            "reward.pattern: missing; `function: pattern` finds the answer by it, give a regular expression"
            if pattern is None
            else f"reward.pattern: belongs to `function: {PATTERN}`; remove it, or set that function"
        )
    elif pattern is not None and (fault := _pattern_fault(pattern)):
        faults.append(f"reward.pattern: {fault}")
    return faults


def _file_fault(file: str, name: str) -> str:
    path = Path(file)
    if not path.is_file():
        return f"{file} is not there (in {Path.cwd()}); correct the path"
    try:
        body = ast.parse(path.read_text(encoding="utf-8"), filename=file).body
    except (SyntaxError, UnicodeDecodeError) as error:
        return f"{file} cannot be read as Python ({error}); correct it"
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return "" if name in functions else f"{file} defines no function {name!r}, only: {', '.join(functions) or 'none'}"


def _pattern_fault(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return f"{pattern!r} is no regular expression ({error}); correct it"
    remedy = "make one group of what is compared with the answer, (?:…) of the others"
    return "" if groups == 1 else f"{pattern!r} has {groups} groups; {remedy}"
