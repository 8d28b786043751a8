"""What a user did that cannot be: the one error that the command line turns into a line and exit status 2."""

from __future__ import annotations


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
