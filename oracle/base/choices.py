"""Names that a user chooses from: what a folder of implementations offers, and the error for a name that it does not.

A file in the folder is a choice, and its name is what is typed; nothing is imported to list them.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from duo_oracle.oracle.base.errors import InputError


def names_in(package: str) -> tuple[str, ...]:
    """The names of the modules in `package` (dotted), sorted; those with a leading underscore are not choices."""
    folder = import_module(package).__file__
    assert folder is not None
    return tuple(sorted(path.stem for path in Path(folder).parent.glob("*.py") if not path.stem.startswith("_")))


def check_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """`value`, where it is one of `choices`. Raises InputError naming the value, the nearest choice, and all of them."""
    available = tuple(str(choice) for choice in choices)
    if value in available:
        return value
    near = get_close_matches(value, available, n=1)
    guess = f" did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown {what} {value!r};{guess} available: {', '.join(available)}")
