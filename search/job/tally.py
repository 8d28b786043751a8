"""How far the units in flight are: what workers tell, and the driver asks for. No torch and no Ray: it runs in its own process."""

from __future__ import annotations

import time
from collections.abc import Callable

Found = Callable[[int], None]
"""Told that so many more rows of oracle paths, one for each position and budget, were found."""

Moved = Callable[[int, float], None]
"""Told of a unit in flight how many of its positions are found."""

TOLD_SECONDS = 1.0  # at most so often does a worker tell


class Tally:
    """Positions found so far of units in flight, by unit: the newest of each, until it is taken."""

    def __init__(self) -> None:
        self._found: dict[int, float] = {}

    def tell(self, unit: int, positions: float) -> None:
        self._found[unit] = positions

    def take(self) -> dict[int, float]:
        found, self._found = self._found, {}
        return found


def counting(unit: int, n_budgets: int, moved: Moved, seconds: float = 0.0) -> Found:
    """Adds up a unit's rows, and passes on how many positions they are, at most once in so many seconds."""
    rows, told = 0, time.monotonic()

    def found(n_rows: int) -> None:
        nonlocal rows, told
        rows += n_rows
        if time.monotonic() - told >= seconds:
            told = time.monotonic()
            moved(unit, rows / n_budgets)

    return found
