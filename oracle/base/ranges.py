"""Laws of numbers that a dataclass of options states, each once: least values, bounds, intervals. Knows no options in particular.

A value of None was not given and is within every range; NaN is within none.
"""

from __future__ import annotations

import math

from duo_oracle.oracle.base.errors import InputError

MOST = 2**63 - 1
"""What the generators and columns behind whole-numbered options hold at most."""


def at_least(options: object, **least_of: float) -> None:
    """Raises InputError for the first of these fields that is less, or a whole number beyond 64 bits.

    >>> from types import SimpleNamespace
    >>> at_least(SimpleNamespace(seed=0, seq_len=1), seed=0, seq_len=2)
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: `seq_len` must be at least 2; got 1
    """
    for name, least in least_of.items():
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise InputError(f"`{name}` must be at least {least}; got {said(value)}")
        if isinstance(value, int):
            of_64_bits(f"`{name}`", value)


def of_64_bits(shown: str, value: int) -> int:
    """The value. Raises InputError for a whole number beyond 64 bits, which is `shown` so."""
    if value > MOST:
        raise InputError(f"{shown} must be at most {MOST}, the largest whole number of 64 bits; got {said(value)}")
    if value < -MOST:
        raise InputError(f"{shown} must be at least {-MOST}; got {said(value)}")
    return value


def said(value: object) -> str:
    """A value as a line holds it: a whole number beyond 64 bits as a power of ten, of which neither a float nor a text may be made.

    >>> said(-12), said(-(2**100)), said(16**5000)
    ('-12', '-1.27e+30', '3.98e+6020')
    """
    if not isinstance(value, int) or abs(value) <= MOST:
        return str(value)
    digits = math.log10(abs(value))
    return f"{'-' * (value < 0)}{10 ** (digits % 1):.2f}e+{int(digits)}"


def whole(text: str) -> int | None:
    """The whole number of 64 bits that a text of digits says; None for another text, and for a greater number.

    >>> whole("64"), whole("-1"), whole("9" * 19), whole("9" * 5000)
    (64, None, None, None)
    """
    digits = text.lstrip("0") or "0"
    if not text.isdecimal() or len(digits) > len(str(MOST)):  # Python makes no number of 4,300 digits
        return None
    return found if (found := int(digits)) <= MOST else None


def above(options: object, **bound_of: float) -> None:
    """Raises InputError for the first of these fields that is not above its bound."""
    for name, bound in bound_of.items():
        value = getattr(options, name)
        if value is not None and not value > bound:
            raise InputError(f"`{name}` must be above {bound}; got {said(value)}")


def within(options: object, **interval_of: tuple[float, float]) -> None:
    """Raises InputError for the first of these fields that lies outside its interval, both ends included."""
    for name, (least, most) in interval_of.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise InputError(f"`{name}` must lie between {least:g} and {most:g}; got {said(value)}")
