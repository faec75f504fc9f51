r"""Two rewards beside the official one: an exact number, and the answer behind a pattern. In workers, as one's own.

number    a number that equals the truth: the last box, or the last number of an answer without one; 1,000 = 1000.0
pattern   the group of the pattern's last match is the truth, white space around both left out
"""

import re
from fractions import Fraction

from prerl.rollouts.rewards import last_boxed, normalise_answer

_UNSIGNED = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_NUMBER = re.compile(rf"(?<![0-9A-Za-z_.])([-+]?)({_UNSIGNED})(?:/({_UNSIGNED}))?")
_FRACTION = re.compile(r"\\frac\{([0-9]+)\}\{([0-9]+)\}")


def _value(found: re.Match | None) -> Fraction | None:
    """Exact value of a match of `_NUMBER`; None without one, and for a division by zero."""
    if found is None:
        return None
    sign, numerator, denominator = found.groups(default="1")
    value, divisor = (Fraction(part.replace(",", "")) for part in (numerator, denominator))
    return None if divisor == 0 else (-value if sign == "-" else value) / divisor


def exact(answer: str) -> Fraction | None:
    r"""The number that `answer` is, whatever Hendrycks' normal form drops left out (units, dollars); else None.

    >>> [str(exact(answer)) for answer in (r"-\frac{3}{4}", r"1,234.50\text{ m}", r"2\sqrt{2}")]
    ['-3/4', '2469/2', 'None']
    """
    normal = normalise_answer(answer)
    return None if normal is None else _value(_NUMBER.fullmatch(_FRACTION.sub(r"\1/\2", normal)))


def number(text: str, answer: str, row: dict) -> float:
    r"""1.0 if the last box of `text` is the number `answer`, or without a box the last number of `text` is.

    Raises ValueError if `answer` is no number.

    >>> number(r"so \boxed{0.5} and not 7", "1/2", {}), number("so 7, or 0.5", "1/2", {})
    (1.0, 1.0)
    """
    truth = exact(answer)
    if truth is None:
        raise ValueError(f"the truth {answer!r} is no number; choose another reward for this problem set")
    boxed = last_boxed(text)
    if boxed is not None:
        return float(exact(boxed) == truth)
    found = list(_NUMBER.finditer(text))
    return float(_value(found[-1] if found else None) == truth)


def pattern(text: str, answer: str, row: dict, pattern: str) -> float:
    """1.0 if the group of the last match of `pattern` in `text` is `answer`.

    >>> pattern("4 + 3 #### 7", "7", {}, r"#### (.+)")
    1.0
    """
    found = list(re.finditer(pattern, text))
    return float(bool(found) and (found[-1].group(1) or "").strip() == answer.strip())
