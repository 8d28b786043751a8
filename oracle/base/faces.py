"""A package's face: names of what stands in rooms behind it, imported when they are first asked for.

So that `import duo_oracle` costs nothing, and reading a run loads no torch. Knows names and dotted modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def face(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`, which shows the names of `places`, each with the module that holds it.

    A name whose place is empty is a package of its own below `package`.

    >>> get, _ = face("duo_oracle.oracle", {"Budget": "duo_oracle.oracle.budgets"})
    >>> get("Budget").__name__
    'Budget'
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place = places[name]
        value = getattr(import_module(place), name) if place else import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get, names
