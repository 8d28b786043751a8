"""Routing patterns: which branch one token takes at each layer.

Knows nothing of models, budgets or files. A pattern has two forms: the frozen `RoutingPattern` that people and Parquet
read (`"Bs.sB"`, layer 0 first), and rows of a uint8 array `branches_PL` that the engine computes with.

Axes: P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import DUO, LETTERS, Branch, BranchTable, pattern_costs

__all__ = ["LETTERS", "Branch", "RoutingPattern", "branch_counts", "pattern_costs", "tie_order", "to_array", "to_strings"]


@dataclass(frozen=True, order=True)
class RoutingPattern:
    """One branch per layer, layer 0 first. `str()` and `parse()` are inverse; the order is `.` < `s` < `B`, layer by layer."""

    branches: tuple[Branch, ...]

    @classmethod
    def parse(cls, text: str, n_letters: int | None = None, table: BranchTable = DUO) -> RoutingPattern:
        """The pattern that `text` writes. Raises InputError for another letter, no letter, or a length other than `n_letters`."""
        wrong = sorted(set(text) - set(table.written))
        if wrong or not text:
            raise InputError(
                f"a routing pattern is written with the letters {' '.join(table.written)}, one per layer; got {text!r}"
            )
        if n_letters is not None and len(text) != n_letters:
            raise InputError(f"a routing pattern of this model has {n_letters} letters; {text!r} has {len(text)}")
        return cls(table.parse_branches(text))

    @classmethod
    def uniform(cls, branch: Branch, n_letters: int) -> RoutingPattern:
        """The same branch at every layer: all-big, all-small, all-skip."""
        return cls((branch,) * n_letters)

    def __str__(self) -> str:
        return "".join(branch.letter for branch in self.branches)

    @property
    def n_letters(self) -> int:
        return len(self.branches)

    @property
    def cost(self) -> int:
        """The sum of the branches' costs."""
        return sum(branch.cost for branch in self.branches)

    @property
    def n_big(self) -> int:
        return self.branches.count(Branch.BIG)

    @property
    def n_small(self) -> int:
        return self.branches.count(Branch.SMALL)

    @property
    def n_skip(self) -> int:
        return self.branches.count(Branch.SKIP)


def to_array(patterns: Iterable[RoutingPattern]) -> np.ndarray:
    """The patterns as rows of a uint8 array `branches_PL`. Raises InputError where their lengths differ."""
    return np.array([pattern.branches for pattern in patterns], dtype=np.uint8)


def to_strings(branches_PL: np.ndarray, letters: str = LETTERS) -> list[str]:
    """Every row of `branches_PL` as its string of letters; `letters` are those of every code (a table's)."""
    n_letters = branches_PL.shape[1]
    letters_PL = np.frombuffer(letters.encode(), dtype=np.uint8)[branches_PL]
    return [row.decode() for row in np.ascontiguousarray(letters_PL).view(f"S{n_letters}").ravel().tolist()]


def branch_counts(branches_PL: np.ndarray, branch: Branch) -> np.ndarray:
    """How many layers of every pattern take `branch`: int16, shape (P,)."""
    return (branches_PL == branch).sum(axis=1, dtype=np.int16)


def tie_order(branches_PL: np.ndarray, branches: Sequence[Branch] = DUO.branches) -> np.ndarray:
    """The order in which patterns of equal loss are preferred: the lower cost by the table's `branches`, then the table's order,
    letter by letter (`.` < `s` < `B`).

    Returns the permutation of the P rows, best first, as np.lexsort gives it.
    """
    layers_last_first = tuple(branches_PL[:, layer] for layer in reversed(range(branches_PL.shape[1])))
    return np.lexsort((*layers_last_first, pattern_costs(branches_PL, branches)))
