"""The search space of one token: layers x allowed branches x budget.

Its size, membership, iteration, neighbours and sampling. Knows no model and no losses.

Axes: P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, code_costs, parse_table, pattern_costs
from duo_oracle.oracle.budgets import ANY, Budget
from duo_oracle.oracle.patterns import RoutingPattern


def parse_branches(text: str) -> tuple[Branch, ...]:
    """The branches of the table that `text` writes, in its order. Raises InputError as `parse_table`."""
    return parse_table(text).branches


@dataclass(frozen=True)
class SearchSpace:
    """All patterns of `n_letters` layers with the given branches under one budget. Raises InputError where there is none.

    >>> SearchSpace(2, parse_branches("top:1,2,4")).held_costs
    (2, 3, 4, 5, 6, 8)
    """

    n_letters: int
    branches: tuple[Branch, ...] = (Branch.SMALL, Branch.BIG)
    budget: Budget = ANY

    def __post_init__(self) -> None:
        if not self.size:
            letters = "".join(branch.letter for branch in self.branches)
            raise InputError(f"no pattern of {self.n_letters} layers with branches {letters!r} has the budget {self.budget}")

    @cached_property
    def most_cost(self) -> int:
        """The greatest cost that a pattern of these branches has, and at least one a layer."""
        return self.n_letters * max(1, *(branch.cost for branch in self.branches))

    @cached_property
    def costly(self) -> Branch | None:
        """The one branch that costs 1 where no other costs anything, as the big one does; None in a table of other costs."""
        found = [branch for branch in self.branches if branch.cost]
        return found[0] if [branch.cost for branch in found] == [1] else None

    @cached_property
    def counts_alone(self) -> bool:
        """Whether a pattern's cost is how many letters take one branch, or always 0."""
        return self.costly is not None or not any(branch.cost for branch in self.branches)

    @cached_property
    def cheap(self) -> tuple[Branch, ...]:
        """The allowed branches other than the costly one."""
        return tuple(branch for branch in self.branches if branch != self.costly)

    @cached_property
    def sizes_by_cost(self) -> tuple[int, ...]:
        """How many patterns of the space cost 0, 1, ..., most_cost."""
        allowed = self.budget.allows(self.most_cost)
        return tuple(ways if allowed[cost] else 0 for cost, ways in enumerate(self.ways(self.n_letters)))

    @cached_property
    def held_costs(self) -> tuple[int, ...]:
        """What patterns of the space cost, rising."""
        return tuple(cost for cost, ways in enumerate(self.sizes_by_cost) if ways)

    def ways(self, n_letters: int) -> list[int]:
        """In how many ways so many letters cost 0, 1, ..., most_cost, whatever the budget."""
        ways = [1] + [0] * self.most_cost
        for _ in range(n_letters):
            more = [0] * len(ways)
            for branch in self.branches:
                for cost in range(len(ways) - branch.cost):
                    more[cost + branch.cost] += ways[cost]
            ways = more
        return ways

    def costs(self, branches_PL: np.ndarray) -> np.ndarray:
        """The cost of every pattern, int64 (P,)."""
        return pattern_costs(branches_PL, self.branches)

    def in_order_of_cost(self, falling: bool = False) -> tuple[Branch, ...]:
        """The branches by rising (or falling) cost; of equal ones the last of the table first: small, skip, big."""
        return tuple(sorted(self.branches, key=lambda branch: (-branch.cost if falling else branch.cost, -branch)))

    @cached_property
    def size(self) -> int:
        return sum(self.sizes_by_cost)

    def __contains__(self, pattern: RoutingPattern) -> bool:
        return (
            pattern.n_letters == self.n_letters
            and set(pattern.branches) <= set(self.branches)
            and bool(self.budget.allows(self.most_cost)[sum(self._cost_b[branch] for branch in pattern.branches)])
        )

    def contains(self, branches_PL: np.ndarray) -> np.ndarray:
        """Which rows are patterns of the space: bool, shape (P,)."""
        in_branches = np.isin(branches_PL, np.array(self.branches, dtype=np.uint8)).all(axis=1)
        cost_P = np.minimum(self.costs(branches_PL), self.most_cost)  # what costs more takes a branch of another table
        return in_branches & self.budget.allows(self.most_cost)[cost_P]

    @cached_property
    def _cost_b(self) -> np.ndarray:
        return code_costs(self.branches)

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
                if new != old:
                    found.append(_replace(pattern, {layer: new}))
        for first in range(self.n_letters):
            for second in range(first + 1, self.n_letters):
                a, b = pattern.branches[first], pattern.branches[second]
                if a != b:
                    found.append(_replace(pattern, {first: b, second: a}))
        return [neighbour for neighbour in found if neighbour in self]

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """`n` patterns drawn uniformly with replacement: branches_PL uint8, shape (n, L)."""
        if not self.counts_alone:
            return self._sample_by_cost(n, generator)
        weights = np.array([size / self.size for size in self.sizes_by_cost])
        n_big_P = generator.choice(self.n_letters + 1, size=n, p=weights)
        rank_PL = generator.random((n, self.n_letters)).argsort(axis=1).argsort(axis=1)
        if not self.cheap:
            return np.full((n, self.n_letters), self.costly, dtype=np.uint8)
        cheap_PL = np.array(self.cheap, dtype=np.uint8)[generator.integers(len(self.cheap), size=(n, self.n_letters))]
        return np.where(rank_PL < n_big_P[:, None], np.uint8(self.branches[0] if self.costly is None else self.costly), cheap_PL)

    def _sample_by_cost(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """A total cost for every pattern, then letter by letter a branch, each as likely as it has completions of that total."""
        scale = [float(size / self.size) for size in self.sizes_by_cost]
        left_P = generator.choice(len(scale), size=n, p=scale)
        branches_PL = np.empty((n, self.n_letters), dtype=np.uint8)
        cost_b = np.array([branch.cost for branch in self.branches])
        for letter in range(self.n_letters):
            ways = self.ways(self.n_letters - letter - 1)
            largest = max(ways)
            ways_K = np.array([float(each / largest) for each in ways])
            rest_Pb = left_P[:, None] - cost_b
            cumulative_Pb = np.where(rest_Pb >= 0, ways_K[np.maximum(rest_Pb, 0)], 0.0).cumsum(axis=1)
            drawn_P1 = generator.random((n, 1)) * cumulative_Pb[:, -1:]
            index_P = (cumulative_Pb <= drawn_P1).sum(axis=1)
            branches_PL[:, letter] = np.array(self.branches, dtype=np.uint8)[index_P]
            left_P = left_P - cost_b[index_P]
        return branches_PL

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
