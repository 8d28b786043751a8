"""Where units run: the contract of `search/job/local_pool.py` (this process) and `search/job/ray_pool.py` (worker processes).

Knows no torch and no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from duo_oracle.models.text.windows import Window
from duo_oracle.results.store.records import UnitRecord


@dataclass(frozen=True)
class Unit:
    """The piece of work that one worker does at a time: some whole sequences."""

    index: int
    sequences: tuple[Window, ...]

    def __str__(self) -> str:
        numbers = [sequence.index for sequence in self.sequences]
        which = f"sequence {numbers[0]}" if len(numbers) == 1 else f"sequences {numbers[0]}-{numbers[-1]}"
        documents = list(dict.fromkeys(sequence.document for sequence in self.sequences))
        more = f" and {len(documents) - 2} more" if len(documents) > 2 else ""
        return f"unit {self.index} ({which}, of {', '.join(documents[:2])}{more})"


@dataclass(frozen=True)
class UnitFailure:
    """A unit that could not be solved: its number, one line that says which it is and why, and where in the program it happened.

    Bad input, such as a weight that is not finite, has no `traceback`.
    """

    unit: int
    message: str
    traceback: str = ""
    disk: str | None = None
    """What the disk's fault was, where it was one: no other unit could be written either."""


Notify = Callable[[str], None]
"""Tells the user one line while the work goes on."""


class Pool(Protocol):
    """Solves units. A context manager: entered before `run`, and left whatever happens, so that no worker stays behind."""

    def run(self, units: Iterable[Unit]) -> Iterator[UnitRecord | UnitFailure]:
        """What became of every unit, in the order in which they end. Takes units lazily, a few ahead of the work."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def plan_units(sequences: Iterable[Window], unit_sequences: int) -> Iterator[Unit]:
    """The units of a run, lazily: `unit_sequences` consecutive sequences each. Independent of who will work on them."""
    waiting: list[Window] = []
    index = 0
    for sequence in sequences:
        waiting.append(sequence)
        if len(waiting) == unit_sequences:
            yield Unit(index, tuple(waiting))
            waiting, index = [], index + 1
    if waiting:
        yield Unit(index, tuple(waiting))
