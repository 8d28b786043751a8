"""The search space of one token: layers x allowed branches x budget.

Its size, membership, iteration, neighbours and sampling. Knows no model and no losses.

Axes: P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import comb

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import ANY, Budget
from duo_oracle.oracle.patterns import LETTERS, Branch, RoutingPattern


def parse_branches(text: str) -> tuple[Branch, ...]:
    """The branches that `text` names, in the order of cost. Raises InputError for another letter, a repeat, or none."""
    if not text or set(text) - set(LETTERS) or len(set(text)) != len(text):
        raise InputError(f"branches are any of the letters . s B, each once; got {text!r}")
    return tuple(branch for branch in Branch if branch.letter in text)


@dataclass(frozen=True)
class SearchSpace:
    """All patterns of `n_letters` layers with the given branches under one budget. Raises InputError where there is none."""

    n_letters: int
    branches: tuple[Branch, ...] = (Branch.SMALL, Branch.BIG)
    budget: Budget = ANY

    def __post_init__(self) -> None:
        if not self.size:
            letters = "".join(branch.letter for branch in self.branches)
            raise InputError(f"no pattern of {self.n_letters} layers with branches {letters!r} has the budget {self.budget}")

    @cached_property
    def cheap(self) -> tuple[Branch, ...]:
        """The allowed branches other than big."""
        return tuple(branch for branch in self.branches if branch is not Branch.BIG)

    @cached_property
    def sizes_by_big(self) -> tuple[int, ...]:
        """How many patterns of the space have 0, 1, ..., n_letters B's."""
        allowed = self.budget.allows(self.n_letters)
        return tuple(
            comb(self.n_letters, k) * len(self.cheap) ** (self.n_letters - k)
            if allowed[k] and (k == 0 or Branch.BIG in self.branches)
            else 0
            for k in range(self.n_letters + 1)
        )

    @cached_property
    def size(self) -> int:
        return sum(self.sizes_by_big)

    def __contains__(self, pattern: RoutingPattern) -> bool:
        return (
            pattern.n_letters == self.n_letters
            and set(pattern.branches) <= set(self.branches)
            and bool(self.budget.allows(self.n_letters)[pattern.n_big])
        )

    def contains(self, branches_PL: np.ndarray) -> np.ndarray:
        """Which rows are patterns of the space: bool, shape (P,)."""
        in_branches = np.isin(branches_PL, np.array(self.branches, dtype=np.uint8)).all(axis=1)
        return in_branches & self.budget.allows(self.n_letters)[(branches_PL == Branch.BIG).sum(axis=1)]

    def __iter__(self) -> Iterator[RoutingPattern]:
        """Every pattern once, in the order of their strings (`.` < `s` < `B`)."""
        for branches in product(self.branches, repeat=self.n_letters):
            pattern = RoutingPattern(branches)
            if pattern in self:
                yield pattern

    def neighbours(self, pattern: RoutingPattern) -> list[RoutingPattern]:
        """The patterns of the space that differ at one layer, and those that exchange the branches of two layers."""
        found = []
        for layer, old in enumerate(pattern.branches):
            for new in self.branches:
                if new is not old:
                    found.append(_replace(pattern, {layer: new}))
        for first in range(self.n_letters):
            for second in range(first + 1, self.n_letters):
                a, b = pattern.branches[first], pattern.branches[second]
                if a is not b:
                    found.append(_replace(pattern, {first: b, second: a}))
        return [neighbour for neighbour in found if neighbour in self]

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """`n` patterns drawn uniformly with replacement: branches_PL uint8, shape (n, L)."""
        weights = np.array([size / self.size for size in self.sizes_by_big])
        n_big_P = generator.choice(self.n_letters + 1, size=n, p=weights)
        rank_PL = generator.random((n, self.n_letters)).argsort(axis=1).argsort(axis=1)
        if not self.cheap:
            return np.full((n, self.n_letters), Branch.BIG, dtype=np.uint8)
        cheap_PL = np.array(self.cheap, dtype=np.uint8)[generator.integers(len(self.cheap), size=(n, self.n_letters))]
        return np.where(rank_PL < n_big_P[:, None], np.uint8(Branch.BIG), cheap_PL)

    def sample_distinct(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """min(n, size) distinct patterns drawn uniformly without replacement: branches_PL uint8."""
        n = min(n, self.size)
        if 2 * n > self.size:
            everything_PL = np.array([pattern.branches for pattern in self], dtype=np.uint8)
            return everything_PL[generator.permutation(len(everything_PL))[:n]]
        found_PL = np.empty((0, self.n_letters), dtype=np.uint8)
        while len(found_PL) < n:  # at most half the space is taken, so a draw is new with probability of at least a half
            found_PL = np.concatenate([found_PL, self.sample(2 * (n - len(found_PL)), generator)])
            _, first = np.unique(found_PL, axis=0, return_index=True)
            found_PL = found_PL[np.sort(first)]
        return found_PL[:n]


def _replace(pattern: RoutingPattern, changes: dict[int, Branch]) -> RoutingPattern:
    return RoutingPattern(tuple(changes.get(layer, branch) for layer, branch in enumerate(pattern.branches)))
