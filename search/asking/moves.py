"""Building a pattern change by change: the moves that greedy and beam search share, and the walk over them.

From a start pattern (up: all small; down: all big) one layer changes at a time, while the budget stays within reach: up in the
order small, skip, big, where skip may be left out; down in the order big, small, skip, where small may be left out. On the way
the number of B's is not yet the budget's; the best pattern in the budget is what counts.

Axes: R rows (patterns of any tokens), C candidates, N tokens, L layers.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy, best_rows, row_keys
from duo_oracle.search.strategy import Proposals


class Direction(StrEnum):
    UP = "up"  # from all-small, adding
    DOWN = "down"  # from all-big, taking away


_ORDERS = {
    Direction.UP: (Branch.SMALL, Branch.SKIP, Branch.BIG),
    Direction.DOWN: (Branch.BIG, Branch.SMALL, Branch.SKIP),
}


class Moves:
    """The moves of a space: from which pattern, and which changes keep the budget within reach."""

    def __init__(self, space: SearchSpace, direction: Direction) -> None:
        self._order = [branch for branch in _ORDERS[direction] if branch in space.branches]
        self.start_L = np.full(space.n_letters, self._order[0], dtype=np.uint8)
        self._sums = np.concatenate([[0], np.cumsum(space.budget.allows(space.n_letters))])

    def candidates(self, branches_RL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every pattern one move on from the rows: parent_C (which row), branches_CL, by row, then layer."""
        parents, layers, branches = [], [], []
        for number, branch in enumerate(self._order):
            parent_C, layer_C = np.nonzero(np.isin(branches_RL, self._order[:number]))
            parents.append(parent_C)
            layers.append(layer_C)
            branches.append(np.full(len(parent_C), branch, dtype=np.uint8))
        parent_C, layer_C, branch_C = np.concatenate(parents), np.concatenate(layers), np.concatenate(branches)
        order_C = np.lexsort((branch_C, layer_C, parent_C))
        parent_C, layer_C, branch_C = parent_C[order_C], layer_C[order_C], branch_C[order_C]
        branches_CL = branches_RL[parent_C]
        branches_CL[np.arange(len(parent_C)), layer_C] = branch_C
        keep_C = self._reaches(branches_CL)
        return parent_C[keep_C], branches_CL[keep_C]

    def _reaches(self, branches_CL: np.ndarray) -> np.ndarray:
        """Whether some number of B's in the budget can still be had from each pattern: bool (C,)."""
        n_big_C = (branches_CL == Branch.BIG).sum(axis=1)
        can_go, can_come = self._order[0] is Branch.BIG and len(self._order) > 1, self._order[-1] is Branch.BIG
        fewest_C = np.where(can_go, 0, n_big_C)
        most_C = np.where(can_come, branches_CL.shape[1], n_big_C)
        return self._sums[most_C + 1] > self._sums[fewest_C]


class Construction(RoundStrategy):
    """The walk: all moves of the patterns held are evaluated, and the best `width` of each token are held for the next step."""

    proposes_outside_budget = True

    def construct(self, direction: str, width: int) -> Rounds:
        moves = Moves(self.space, Direction(direction))
        token_R = np.arange(self.n_tokens)
        branches_RL = np.tile(moves.start_L, (self.n_tokens, 1))
        yield Proposals(token_R, branches_RL)
        while len(token_R):
            parent_C, branches_CL = moves.candidates(branches_RL)
            token_C = token_R[parent_C]
            first_C = _first_of_each(row_keys(token_C, branches_CL))  # two orders of the same changes are one pattern
            token_C, branches_CL = token_C[first_C], branches_CL[first_C]
            if not len(token_C):
                return
            loss_C = yield Proposals(token_C, branches_CL)
            held = best_rows(token_C, loss_C, branches_CL, width)
            token_R, branches_RL = token_C[held], branches_CL[held]


def _first_of_each(keys: list[bytes]) -> np.ndarray:
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))
