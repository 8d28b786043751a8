"""Exhaustive per layer: all branches of one layer with the others held, layer after layer, until a sweep changes nothing.

Coordinate descent over layers (iterated conditional modes, Besag 1986). Under a budget a B also moves: from the layer to any
other, or from any other to it, and the layer that gives it up takes any cheaper branch, since one layer alone cannot move under
an exact budget. It ends at a local optimum: no change of one layer within the budget, and no such move, has less loss.

Axes: N tokens, R rows (candidates), L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from duo_oracle.oracle.base.settings import setting
from duo_oracle.oracle.branches import code_costs
from duo_oracle.oracle.budgets import BudgetKind
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search import strategy
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy, best_rows
from duo_oracle.search.asking.starts import check_start, start_in_budget
from duo_oracle.search.strategy import Proposals


class Order(StrEnum):
    UP = "up"
    DOWN = "down"
    RANDOM = "random"  # another order in every sweep, the same for all tokens


class Layerwise(RoundStrategy):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        start: str = setting(
            "small",
            "small, big (in the budget: its fewest or most B's, evenly spread), spread (half of the layers big, or the nearest "
            "that the budget admits), random, or a pattern",
        )
        order: str = setting("up", "of layers in a sweep: up, down or random", choices=Order)
        sweeps: int = setting(0, "at most so many sweeps, 0 for until nothing changes", least=0)

        def __post_init__(self) -> None:
            super().__post_init__()
            check_start("start", self.start, ("small", "big", "spread", "random"))

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        self._start_L = None if settings.start == "random" else start_in_budget(space, settings.start)

    def search(self) -> Rounds:
        if self._start_L is None:
            current_NL = self.space.sample(self.n_tokens, self.generator)
        else:
            current_NL = np.tile(self._start_L, (self.n_tokens, 1))
        active_N = np.arange(self.n_tokens)
        loss_N = yield Proposals(active_N, current_NL)
        n_sweeps = 0
        while len(active_N) and (n_sweeps := n_sweeps + 1) <= (self.settings.sweeps or n_sweeps):
            changed_N = np.zeros(self.n_tokens, dtype=bool)
            for layer in self._layers():
                token_R, branches_RL = self._candidates(active_N, current_NL[active_N], layer)
                if not len(token_R):
                    continue
                loss_R = yield Proposals(token_R, branches_RL)
                token_R = np.concatenate([active_N, token_R])
                branches_RL = np.concatenate([current_NL[active_N], branches_RL])
                loss_R = np.concatenate([loss_N[active_N], loss_R])
                best_A = best_rows(token_R, loss_R, branches_RL, 1, self.space.branches)
                changed_N[active_N] |= best_A >= len(active_N)
                current_NL[active_N], loss_N[active_N] = branches_RL[best_A], loss_R[best_A]
            active_N = np.flatnonzero(changed_N)

    def _layers(self) -> list[int]:
        up = list(range(self.space.n_letters))
        if self.settings.order == Order.RANDOM:
            return self.generator.permutation(up).tolist()
        return up if self.settings.order == Order.UP else up[::-1]

    def _candidates(self, token_N: np.ndarray, current_NL: np.ndarray, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Every pattern of the space that takes another branch at `layer`, or makes up for another there by one elsewhere."""
        rows, found = [], []
        for branch in self.space.branches:
            rows_R = np.flatnonzero(current_NL[:, layer] != branch)
            changed_RL = current_NL[rows_R]
            changed_RL[:, layer] = branch
            rows.append(rows_R)
            found.append(changed_RL)
        if self.space.budget.kind is not BudgetKind.ANY:
            more = self._moves(current_NL, layer) if self.space.counts_alone else self._exchanges(current_NL, layer)
            rows += [row_R for row_R, _ in more]
            found += [changed_RL for _, changed_RL in more]
        row_R, branches_RL = np.concatenate(rows), np.concatenate(found)
        inside_R = self.space.contains(branches_RL)
        return token_N[row_R[inside_R]], branches_RL[inside_R]

    def _moves(self, current_NL: np.ndarray, layer: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """A costly branch moved between `layer` and any other layer: rows, and what they become."""
        costly = self.space.costly
        if costly is None:
            return []
        is_big_NL = current_NL == costly
        row_R, other_R = np.nonzero(is_big_NL != is_big_NL[:, [layer]])
        here_R = is_big_NL[row_R, layer]
        moved = []
        for branch in self.space.cheap:
            changed_RL = current_NL[row_R]
            changed_RL[:, layer] = np.where(here_R, branch, costly)
            changed_RL[np.arange(len(row_R)), other_R] = np.where(here_R, costly, branch)
            moved.append((row_R, changed_RL))
        return moved

    def _exchanges(self, current_NL: np.ndarray, layer: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """`layer` and any other layer changed together, to branches of other costs: rows, and what they become."""
        cost_b = code_costs(self.space.branches)
        changed = []
        for other in range(self.space.n_letters):
            for here in self.space.branches:
                for there in self.space.branches:
                    new_N = (cost_b[current_NL[:, layer]] != here.cost) & (cost_b[current_NL[:, other]] != there.cost)
                    row_R = np.flatnonzero(new_N) if other != layer else np.empty(0, dtype=np.int64)
                    changed_RL = current_NL[row_R]
                    changed_RL[:, layer], changed_RL[:, other] = here, there
                    changed.append((row_R, changed_RL))
        return changed
