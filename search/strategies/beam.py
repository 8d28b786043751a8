"""Beam search: greedy search that holds the best `width` patterns of each token at every step instead of one.

Lowerre 1976 (the Harpy system). Two orders of the same changes meet in one pattern, which is held and evaluated once. With
width 1 it is greedy search; with a width that holds every pattern of a step it is exhaustive.
"""

from __future__ import annotations

from dataclasses import dataclass

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search import strategy
from duo_oracle.search.asking.moves import Construction, Direction
from duo_oracle.search.asking.rounds import Rounds


class Beam(Construction):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        """width: patterns held per token; direction: up adds to all-small, down takes away from all-big."""

        width: int = 4
        direction: str = "up"

        def __post_init__(self) -> None:
            if self.width < 1:
                raise InputError(f"setting width of strategy beam is at least 1; got {self.width}")
            check_choice("direction", self.direction, Direction)

    def search(self) -> Rounds:
        return self.construct(self.settings.direction, self.settings.width)
