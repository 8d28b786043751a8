"""What goes wrong without a fault of the program: bad input (one line, exit status 2), and what ends around it (one line, 1)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input: an option, a file, a model, a query. Its text is one line that states the law, the value and the choices.

    Parameters are named as in Python, in backticks: `seq_len` or `keep='losses'`. The command line spells them as its options.

    A ValueError, so that code which expects one still catches it. Anything else that is raised is a fault of the program.

    >>> from duo_oracle.oracle.budgets import parse_budgets
    >>> parse_budgets("13", 12)
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: ...
    """


class Outage(RuntimeError):
    """Something that the work needs has ended, such as the cluster that it runs on or the room on its disk. Its text is one line
    that says what is gone, what is kept and how to go on; the command line prints it, with exit status 1."""


class Said(UserWarning):
    """What a user should know of what was read, and what no answer depends on: a line. The command line writes it to stderr."""


@contextmanager
def ends_in_a_line() -> Iterator[None]:
    """For a program that is no command: bad input ends it with a line on stderr and status 2, an outage with status 1."""
    try:
        yield
    except (InputError, Outage) as fault:
        print(fault, file=sys.stderr)
        raise SystemExit(2 if isinstance(fault, InputError) else 1) from None
