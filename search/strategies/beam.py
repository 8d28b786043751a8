"""Beam search: greedy search that holds the best `width` patterns of each token at every step instead of one.

Lowerre 1976 (the Harpy system). Two orders of the same changes meet in one pattern, which is held and evaluated once. With
width 1 it is greedy search; with a width that holds every pattern of a step it is exhaustive.
"""

from __future__ import annotations

from dataclasses import dataclass

from duo_oracle.oracle.base.settings import setting
from duo_oracle.search import strategy
from duo_oracle.search.asking.moves import Construction, Direction
from duo_oracle.search.asking.rounds import Rounds


class Beam(Construction):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        width: int = setting(4, "patterns held per token", least=1)
        direction: str = setting("up", "up adds to all-small, down takes away from all-big", choices=Direction)

    def search(self) -> Rounds:
        return self.construct(self.settings.direction, self.settings.width)
