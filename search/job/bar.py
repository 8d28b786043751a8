"""What a search shows while it goes on: positions found, also of the units in flight, positions a second, and the time left.

On a terminal and in a notebook; where nobody looks on, only what went wrong is said.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from duo_oracle.oracle.base.progress import looked_on, progress
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.pool import Notify


class Bar:
    """Positions done of `total`. `moved` is told of units in flight, `add` of those that are written; a unit that is tried again
    begins anew. `spell` writes the parameters that a line names."""

    def __init__(self, total: int, done: int, notify: Notify | None, spell: Callable[[str], str] = str) -> None:
        self._spell = spell
        self._notify, self._initial = notify, done
        self._done, self._started = 0, time.monotonic()
        self._in_flight: dict[int, float] = {}
        self.looked_on = looked_on()
        self._bar = progress(total=total, initial=done, unit="tok", desc="search", smoothing=0.1)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def rate(self) -> float:
        """Positions per second of this session, with the time that the workers took to start."""
        return round(self._done / max(time.monotonic() - self._started, 1e-9), 3)

    def moved(self, unit: int, positions: float) -> None:
        """So many positions of a unit in flight are found."""
        self._in_flight[unit] = positions
        self._show()

    def add(self, record: UnitRecord) -> None:
        """A unit is done."""
        self._in_flight.pop(record.unit, None)
        self._done += record.tokens
        self._show()

    def say(self, line: str) -> None:
        """A line above the bar."""
        line = self._spell(line)
        if self._notify is not None:
            self._notify(line)
        else:
            self._bar.write(f"duo-oracle: {line}", file=sys.stderr)

    def tell(self, line: str) -> None:
        """The same of what goes as it should, for those who look on."""
        if self._notify is None and self.looked_on:
            self.say(line)

    def _show(self) -> None:
        found = self._done + sum(self._in_flight.values())
        self._bar.update(self._initial + int(found) - self._bar.n)
