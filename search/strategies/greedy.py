"""Greedy search: from all-small, make the one change that helps most, until the budget is met; or from all-big, take away.

Forward selection and backward elimination (Efroymson 1960), with a layer's branch in the place of a regressor. For L layers
and branches sB an exact budget k takes 1 + L + (L-1) + ... + (L-k+1) evaluations, no budget L(L+1)/2 + 1. All steps are
walked, also those that do not help; the best pattern in the budget counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from duo_oracle.oracle.base.settings import setting
from duo_oracle.search import strategy
from duo_oracle.search.asking.moves import Construction, Direction
from duo_oracle.search.asking.rounds import Rounds


class Greedy(Construction):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        direction: str = setting("up", "up adds to all-small, down takes away from all-big", choices=Direction)

    def search(self) -> Rounds:
        return self.construct(self.settings.direction, width=1)
