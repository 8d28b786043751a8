"""What strategies share that work in rounds: propose for many tokens, hear all losses, decide. Knows no particular strategy.

A subclass writes its search as one generator: it yields candidates and is sent their losses. Here a pattern that was evaluated
for a token is remembered and never asked for again, a round is handed out in pieces of the size that is asked for, and a
failed trial is an infinite loss.

Axes: R rows (candidates of any tokens), N tokens, L layers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from typing import Any

import numpy as np

from duo_oracle.oracle.branches import DUO, Branch
from duo_oracle.oracle.patterns import tie_order
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.strategy import Proposals, Strategy, Trials

Rounds = Generator[Proposals, np.ndarray, None]
"""Yields candidates, repeats allowed, and is sent loss_R in their order, infinite where the trial failed."""


class RoundStrategy(Strategy):
    """A strategy whose search is a generator of rounds."""

    remembers = True
    """Whether losses are remembered per token. A subclass that never repeats itself may save the memory."""

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        self._known: dict[bytes, float] = {}  # by token and pattern
        self._rounds: Rounds | None = None
        self._ended = False
        self._keys: list[bytes] = []  # the round's candidates
        self._new = _nothing(space)  # those of them that were not evaluated before
        self._rank_R = np.empty(0, dtype=np.int64)  # each new row's number among those of its token
        self._n_handed = 0  # rows of a rank below this have been handed out
        self._asked: list[bytes] = []

    @abstractmethod
    def search(self) -> Rounds:
        """The whole search, from the first round to the last."""

    def known(self, token_R: np.ndarray, branches_RL: np.ndarray) -> np.ndarray:
        """Whether each pattern was evaluated for its token: bool (R,)."""
        return np.fromiter((key in self._known for key in row_keys(token_R, branches_RL)), dtype=bool, count=len(token_R))

    def ask(self, n: int) -> Proposals:
        if not self._ended and self._n_handed > self._rank_R.max(initial=-1):
            self._next_round()
        rows = np.flatnonzero((self._n_handed <= self._rank_R) & (self._rank_R < self._n_handed + n))
        self._n_handed += n
        proposals = Proposals(self._new.token_R[rows], self._new.branches_RL[rows])
        self._asked = row_keys(proposals.token_R, proposals.branches_RL)
        return proposals

    def tell(self, trials: Trials) -> None:
        loss_R = np.where(trials.complete_R, trials.loss_R, np.inf)
        self._known.update(zip(self._asked, loss_R.tolist(), strict=True))

    def _next_round(self) -> None:
        """Go on to the next round with a candidate that was not evaluated yet, or to the end."""
        while True:
            try:
                if self._rounds is None:
                    self._rounds = self.search()
                    candidates = next(self._rounds)
                else:
                    losses = np.fromiter(map(self._known.__getitem__, self._keys), dtype=np.float64, count=len(self._keys))
                    if not self.remembers:
                        self._known.clear()
                    candidates = self._rounds.send(losses)
            except StopIteration:
                self._ended, self._new, self._rank_R = True, _nothing(self.space), np.empty(0, dtype=np.int64)
                return
            self._keys = row_keys(candidates.token_R, candidates.branches_RL)
            first = {key: row for row, key in reversed(list(enumerate(self._keys))) if key not in self._known}
            rows = np.sort(np.fromiter(first.values(), dtype=np.int64, count=len(first)))
            self._new = Proposals(candidates.token_R[rows], candidates.branches_RL[rows])
            self._rank_R, self._n_handed = rank_in_group(self._new.token_R), 0
            if len(rows):
                return


def row_keys(token_R: np.ndarray, branches_RL: np.ndarray) -> list[bytes]:
    """A key per row that tells (token, pattern) apart."""
    token_R8 = np.ascontiguousarray(token_R, dtype=np.int64).view(np.uint8).reshape(len(token_R), 8)
    row_RW = np.ascontiguousarray(np.concatenate([token_R8, branches_RL], axis=1, dtype=np.uint8))
    return row_RW.view(f"V{row_RW.shape[1]}").ravel().tolist()


def rank_in_group(group_R: np.ndarray) -> np.ndarray:
    """Each row's number, from 0, among the rows of its group, in their order: int64 (R,)."""
    order_R = np.argsort(group_R, kind="stable")
    sorted_R = group_R[order_R]
    rank_R = np.empty(len(group_R), dtype=np.int64)
    rank_R[order_R] = np.arange(len(group_R)) - np.searchsorted(sorted_R, sorted_R)
    return rank_R


def best_rows(
    token_R: np.ndarray, loss_R: np.ndarray, branches_RL: np.ndarray, width: int, branches: tuple[Branch, ...] = DUO.branches
) -> np.ndarray:
    """The `width` rows of least loss of every token, best first, equal losses by the order of ties of a
    table's `branches`: indices, by token."""
    rank_R = np.empty(len(loss_R), dtype=np.int64)
    rank_R[tie_order(branches_RL, branches)] = np.arange(len(loss_R))
    order_R = np.lexsort((rank_R, loss_R, token_R))
    return order_R[rank_in_group(token_R[order_R]) < width]


def _nothing(space: SearchSpace) -> Proposals:
    return Proposals(np.empty(0, dtype=np.int64), np.empty((0, space.n_letters), dtype=np.uint8))
