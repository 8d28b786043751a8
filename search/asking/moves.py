"""Building a pattern change by change: the moves that greedy and beam search share, and the walk over them.

From a start pattern (up: the cheapest branch everywhere; down: the dearest) one layer changes at a time, while the budget stays
within reach: up in the order of rising cost (small, skip, big), down of falling cost (big, small, skip), where branches between may
be left out. On the way the cost is not yet the budget's; the best pattern in the budget is what counts.

Axes: R rows (patterns of any tokens), C candidates, N tokens, L layers.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

import numpy as np

from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy, best_rows, row_keys
from duo_oracle.search.strategy import Proposals


class Direction(StrEnum):
    UP = "up"  # from all-small, adding
    DOWN = "down"  # from all-big, taking away


class Moves:
    """The moves of a space: from which pattern, and which changes keep the budget within reach."""

    def __init__(self, space: SearchSpace, direction: Direction) -> None:
        self._order = space.in_order_of_cost(falling=direction is Direction.DOWN)
        self.start_L = np.full(space.n_letters, self._order[0], dtype=np.uint8)
        self._totals = sum(1 << int(total) for total in np.flatnonzero(space.budget.allows(space.most_cost)))

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
        """Whether some cost in the budget can still be had from each pattern, by how many letters take each branch: bool (C,)."""
        count_Cb = np.stack([(branches_CL == branch).sum(axis=1) for branch in self._order], axis=1)
        distinct, which_C = np.unique(count_Cb, axis=0, return_inverse=True)
        costs = tuple(branch.cost for branch in self._order)
        reaches = [bool(_reachable(tuple(counts), costs) & self._totals) for counts in distinct.tolist()]
        return np.array(reaches, dtype=bool)[which_C.ravel()]


@lru_cache(maxsize=1 << 16)
def _reachable(counts: tuple[int, ...], costs: tuple[int, ...]) -> int:
    """The totals that letters come to when each stays or goes on to a later branch: bit k of the number for a total of k."""
    totals = 1
    for place, count in enumerate(counts):
        for _ in range(count):
            with_it = 0
            for cost in set(costs[place:]):
                with_it |= totals << cost
            totals = with_it
    return totals


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
            held = best_rows(token_C, loss_C, branches_CL, width, self.space.branches)
            token_R, branches_RL = token_C[held], branches_CL[held]


def _first_of_each(keys: list[bytes]) -> np.ndarray:
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))
