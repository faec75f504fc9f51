"""Exact comparison of numbers in place of math-verify's, which takes numbers for equal that agree to six decimal places
or differ by less than 1e-15, whatever their size."""

from collections.abc import Iterator
from contextlib import contextmanager

from math_verify import grader
from sympy import Expr, Float, I, Integral, Limit, Product, Rational, Sum, nan, oo, prime, zoo
from sympy.core.function import AppliedUndef

_DIGITS = 1000  # closed forms that agree so far count as equal
_NOT_CLOSED = (Integral, Sum, Product, Limit, AppliedUndef)


def _closed_form(expression: object) -> Expr | None:
    """A finite number in closed form, decimals as the fractions that they are, i as the imaginary unit; else None."""
    if not isinstance(expression, Expr):
        return None
    symbols = {symbol: I for symbol in expression.free_symbols if symbol.name == "i"}
    if len(symbols) < len(expression.free_symbols):
        return None
    decimals = {decimal: Rational(str(decimal)) for decimal in expression.atoms(Float)}
    value = expression.xreplace(symbols | decimals).doit()
    return None if value.has(nan, zoo, oo, -oo, *_NOT_CLOSED) else value


def equal_numbers(first: object, second: object) -> bool | None:
    """Whether two numbers in closed form are equal; None if one of them is no such number.

    Fractions are compared as such, other numbers to 1,000 digits of their difference.
    """
    a, b = _closed_form(first), _closed_form(second)
    if a is None or b is None:
        return None
    difference = a - b
    if difference.is_Rational:
        return bool(difference == 0)
    parts = difference.evalf(2, maxn=_DIGITS).as_real_imag()
    if not all(part.is_Number for part in parts):
        return None
    # SymPy marks a sum whose digits all cancelled by a precision of 1 bit
    return not any(part != 0 and getattr(part, "_prec", 2) > 1 for part in parts)


def _equal_somewhere(first: Expr, second: Expr) -> bool:
    """Whether two expressions with symbols agree at one point, which equal ones do; True where they have no value."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    point = {symbol: Rational(prime(i + 5), 7) for i, symbol in enumerate(symbols)}
    return equal_numbers(first.xreplace(point), second.xreplace(point)) is not False


@contextmanager
def exact_numbers() -> Iterator[None]:
    """In this block math-verify compares numbers exactly, those in lists, intervals, matrices and equations too.

    9 and 9 % stay equal, as its rule is for integers, so 9.5 and 9.5 % are. It has no setting for this: three functions
    of its pinned version are replaced.
    """
    kept = {name: getattr(grader, name) for name in ("sympy_numeric_eq", "sympy_symbolic_eq", "sympy_compare_symbols")}
    numeric_eq, symbolic_eq, symbols_eq = kept.values()

    def numeric(a: object, b: object, float_rounding: int, numeric_precision: int) -> bool:
        equal = equal_numbers(a, b)
        if equal is False:
            shares = grader.get_pct_val(a, a), grader.get_pct_val(b, b)
            return shares != (a, b) and equal_numbers(*shares) is True
        if equal is None:
            equal = numeric_eq(a, b, float_rounding, numeric_precision)
            if equal and isinstance(a, Expr) and isinstance(b, Expr):
                equal = _equal_somewhere(a, b)
        return equal

    def symbolic(a: object, b: object) -> bool:
        return equal_numbers(a, b) is None and symbolic_eq(a, b)

    def symbols(a: object, b: object) -> bool:  # one of them is a symbol, such as i
        return symbols_eq(a, b) or equal_numbers(a, b) is True

    vars(grader).update(sympy_numeric_eq=numeric, sympy_symbolic_eq=symbolic, sympy_compare_symbols=symbols)
    try:
        yield
    finally:
        vars(grader).update(kept)
