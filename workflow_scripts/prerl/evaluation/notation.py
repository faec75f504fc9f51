r"""What math-verify's parser does not read, rewritten as LaTeX that it does: pure functions of strings.

Each rewriting is a departure from math-verify, listed in docs/graders.md.
"""

import re
import unicodedata

_LONGEST = 200  # digits of a repeating decimal, so that no answer costs much
_SIGNS = str.maketrans(
    {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
    | {"−": "-", "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty "}
    | {"∅": r"\emptyset ", "°": r"^\circ ", "²": "^{2}", "³": "^{3}"}
)
_SPACE = r"(?:\\[,;: ]|[~ \u00a0\u2009\u202f])"  # between the groups of a long number
_GROUPED = re.compile(rf"(?<![\d.])\d{{1,3}}(?:{_SPACE}\d{{3}})+(?!\d)")
_GROUPED_DECIMALS = re.compile(rf"(?<=\d\.)\d{{3}}(?:{_SPACE}\d{{3}})*{_SPACE}\d{{1,3}}(?!\d)")
_REPEATED = rf"(?:\{{\s*(\d{{1,{_LONGEST}}})\s*\}}|\s*(\d))"
_REPEATING = re.compile(
    rf"(?<![\d.])(\d{{0,{_LONGEST}}})\.(\d{{0,{_LONGEST}}})"
    rf"\\(?:(?:overline|bar|overbar){_REPEATED}|dot{_REPEATED}(?:(\d{{0,{_LONGEST}}})\\dot{_REPEATED})?)"
)
_TIME = re.compile(r"\s*(\d{1,2}):([0-5]\d)\s*(?:\\text\s*\{\s*)?(?:([ap])\.?\s?m\.?)?\s*\}?\s*", re.IGNORECASE)
_FUNCTIONS = ["sqrt", "exp", "log", "ln", "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh"]
_ARCS = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_NAMES = {name: name for name in ["pi", *_FUNCTIONS, *_ARCS.values()]} | _ARCS
_NAME = re.compile(rf"(?<![A-Za-z\\])(?:(?:np|math)\.)?({'|'.join(sorted(_NAMES, key=len, reverse=True))})(?![A-Za-z])")
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d+)(?![\w.])")
_SIGNED_EXPONENT = re.compile(r"\^\s*([+-]\s*(?:\d+(?:\.\d+)?|\\?[A-Za-z]+))")
_OPENED = re.compile(r"(\\sqrt\s*|\^\s*)\(")


def as_latex(text: str) -> str:
    r"""The content of a box with digits, signs, groups of digits and repeating decimals as math-verify reads them.

    >>> as_latex(r"１\,000, 0.1\overline{6}, \varnothing")
    '1000, \\frac{15}{90}, \\emptyset'
    """
    if not text.isascii():
        text = re.sub(r"√\s*(\d+(?:\.\d+)?)", r"√{\1}", text)  # LaTeX's \sqrt takes one digit
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text.translate(_SIGNS))
    text = re.sub(r"\\varnothing(?![A-Za-z])", r"\\emptyset", text)
    for groups in (_GROUPED_DECIMALS, _GROUPED):
        text = groups.sub(lambda number: re.sub(_SPACE, "", number[0]), text)
    return _REPEATING.sub(_fraction, text)


def _fraction(decimal: re.Match) -> str:
    r"""0.1\overline{6} → \frac{15}{90}."""
    whole, fixed, *rest = (group or "" for group in decimal.groups())
    over, dotted, between, last = rest[0] + rest[1], rest[2] + rest[3], rest[4], rest[5] + rest[6]
    repeated = over or dotted + between + last
    difference = int(whole + fixed + repeated) - int(whole + fixed or "0")
    return rf"\frac{{{difference}}}{{{(10 ** len(repeated) - 1) * 10 ** len(fixed)}}}"


def same_time(boxed: str, truth: str) -> bool | None:
    r"""Whether both are one time of day: 5:00, 05:00, 5:00\text{ p.m.}; a.m. or p.m. may be left out.

    math-verify takes the colon for a division. None, for it to decide, if the truth is no time, or may be a ratio such
    as 3:10 and the box is no time.
    """
    time, box = _TIME.fullmatch(truth), _TIME.fullmatch(boxed)
    if time is None or (box is None and time[2][0] != "0"):
        return None
    if box is None:
        return False
    halves = {half.lower() for half in (time[3], box[3]) if half}
    return (int(time[1]), time[2]) == (int(box[1]), box[2]) and len(halves) < 2


def plain_as_latex(text: str) -> str:
    r"""`as_latex`, and in text without LaTeX commands also functions, pi, powers and numbers such as 1e-5.

    >>> plain_as_latex("-1 + exp(16)/sqrt(2*pi)**3")
    '-1 + \\exp (16)/\\sqrt {2*\\pi }^3'
    """
    latex = as_latex(text)
    if "\\" in text:
        return latex
    latex = _SCIENTIFIC.sub(r"(\1\\times 10^{\2})", latex.replace("**", "^"))
    latex = _NAME.sub(lambda name: rf"\{_NAMES[name[1]]} ", latex)
    latex = _SIGNED_EXPONENT.sub(r"^{\1}", latex)
    start = 0
    while opened := _OPENED.search(latex, start):
        start = opened.end()
        closed = _closing(latex, start)
        if closed is None:
            break
        latex = f"{latex[: start - 1]}{{{latex[start:closed]}}}{latex[closed + 1 :]}"
    return latex


def _closing(text: str, start: int) -> int | None:
    """Where the parenthesis that was opened before `start` is closed."""
    depth = 1
    for bracket in re.compile(r"[()]").finditer(text, start):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return bracket.start()
    return None
