r"""The training reward: the last `\boxed{}` of an answer against the ground truth by Hendrycks string equality.

The rule is that of Hendrycks et al., "Measuring Mathematical Problem Solving With the MATH Dataset" (2103.03874,
github.com/hendrycks/math, modeling/math_equivalence.py) in the form the official code scores with
(verl/utils/reward_score/math.py: reward 1.0 if and only if is_equiv(content of the last box, ground truth)). The code
is ours. Imports the standard library only: the trainer calls it in every update.

Where the value differs from the official code, on purpose:
- The last `\boxed` decides. The official code prefers a `\boxed ` written with a space to every later `\boxed{…}`.
- `\fbox{…}` counts if there is no `\boxed`. The official code finds it, then fails an assertion: reward 0.
Where it differs from Hendrycks' file, with the official code: a bare `%` stays, only `\%` is removed.
The official code catches every exception; here the malformed inputs that raise there are named (`normalise_answer`
returns None) and nothing is caught.
"""

import re

_BRACE = re.compile(r"[{}]")
_INTEGER = r"(0|-?[1-9][0-9]*)"
_INTEGER_RATIO = re.compile(f"{_INTEGER}/{_INTEGER}")


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{…}` of `text` (of the last `\fbox{…}` where there is no `\boxed`).

    `\boxed 7` without braces holds everything up to the next `$` or the end. None when nothing is boxed, the last box
    is not closed, or its command is followed by neither a brace nor a space.

    >>> last_boxed(r"\boxed{1}, no: $\boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    """
    command = "\\boxed" if "\\boxed" in text else "\\fbox"
    _, found, rest = text.rpartition(command)
    if not found:
        return None
    if rest.startswith(" "):
        return rest[1:].split("$")[0]
    if not rest.startswith("{"):
        return None
    depth = 0
    for brace in _BRACE.finditer(rest):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return rest[1 : brace.start()]
    return None


def _without_unit(answer: str) -> str | None:
    r"""Drop a unit written as `\text{ unit}` on the right; None when there are two such texts (malformed)."""
    head, *units = answer.split("\\text{ ")
    return head if len(units) <= 1 else None


def _brace_sqrt_argument(answer: str) -> str | None:
    r"""`\sqrt3` → `\sqrt{3}`; None when a `\sqrt` has no argument before the next `\sqrt` or the end (malformed)."""
    head, *pieces = answer.split("\\sqrt")
    if "" in pieces:
        return None
    braced = [piece if piece[0] == "{" else f"{{{piece[0]}}}{piece[1:]}" for piece in pieces]
    return "\\sqrt".join([head, *braced])


def _brace_frac_arguments(answer: str) -> str | None:
    r"""`\frac12` → `\frac{1}{2}`, `\frac1{72}` → `\frac{1}{72}`; `\frac{72}1` stays, as published.

    A `\frac` with a single character to the next `\frac` or the end leaves the whole answer as it is; one with nothing
    at all is malformed: None.
    """
    head, *pieces = answer.split("\\frac")
    braced = [head]
    for piece in pieces:
        if not piece:
            return None
        if piece[0] == "{":
            braced.append(piece)
        elif len(piece) == 1:
            return answer
        elif piece[1] == "{":
            braced.append(f"{{{piece[0]}}}{piece[1:]}")
        else:
            braced.append(f"{{{piece[0]}}}{{{piece[1]}}}{piece[2:]}")
    return "\\frac".join(braced)


def normalise_answer(answer: str) -> str | None:
    r"""Hendrycks' normal form of an answer (the official `strip_string`, verl/utils/reward_score/math.py).

    Removes line breaks, `\!`, `\left`, `\right`, degree signs, `\$`, a `\text{ unit}` on the right, `\%` and spaces;
    writes `\tfrac` and `\dfrac` as `\frac`, `.5` as `0.5`, 0.5 and 1/2 as `\frac{1}{2}`; drops a left side of at most
    two characters before a single `=`. None for the malformed answers on which the published code raises.

    >>> normalise_answer(r"x = \dfrac12\text{ cm}")
    '\\frac{1}{2}'
    """
    answer = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    answer = answer.replace("tfrac", "frac").replace("dfrac", "frac")
    answer = answer.replace("\\left", "").replace("\\right", "")
    answer = answer.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    without_unit = _without_unit(answer)
    if without_unit is None:
        return None
    answer = without_unit.replace("\\%", "").replace(
        "\\%", ""
    )  # twice, as in the official code: removing one can form another
    answer = answer.replace(" .", " 0.").replace("{.", "{0.")
    if answer.startswith("."):
        answer = "0" + answer
    sides = answer.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        answer = sides[1]
    rooted = _brace_sqrt_argument(answer)
    if rooted is None:
        return None
    fractions = _brace_frac_arguments(rooted.replace(" ", ""))
    if fractions is None:
        return None
    if fractions == "0.5":
        return "\\frac{1}{2}"
    ratio = _INTEGER_RATIO.fullmatch(fractions)
    return f"\\frac{{{ratio[1]}}}{{{ratio[2]}}}" if ratio else fractions


def is_equiv(answer: str, truth: str) -> bool:
    """Whether the normal forms are equal; if one is malformed, whether the raw strings are (official too)."""
    normal_answer, normal_truth = normalise_answer(answer), normalise_answer(truth)
    if normal_answer is None or normal_truth is None:
        return answer == truth
    return normal_answer == normal_truth


def hendrycks_reward(text: str, answer: str) -> float:
    r"""Reward of a whole response: 1.0 if its last box equals the ground truth `answer`, else 0.0.

    Args:
        text: the decoded response; nothing boxed is wrong, whatever its words say.
        answer: the ground truth, as the dataset gives it (not boxed).

    >>> hendrycks_reward(r"so $\boxed{\frac12}$", "1/2"), hendrycks_reward("… and 42 is", "42")
    (1.0, 0.0)
    """
    boxed = last_boxed(text)
    return 1.0 if boxed is not None and is_equiv(boxed, answer) else 0.0
