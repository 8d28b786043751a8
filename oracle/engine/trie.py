"""The tree of pattern prefixes: which states exist at each layer, and how they descend from the layer before.

With the context fixed, a token's state after layer l depends on its first l branches alone, so patterns that begin alike
share their states. Only indices live here; `oracle/engine/walk.py` runs a model over them. For two layers of s and B:

        root              layer 0: one state, attention runs once
       /    \\
      s      B            layer 1: two states
     / \\    / \\
    ss  sB Bs  BB         four leaves

A full tree is grown level by level from a rule, never from a list of its patterns; the tree of any set of patterns is grown
from the set.

Axes: S states (prefixes) of one level, P leaves, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from duo_oracle.oracle.branches import Branch, code_costs
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.flops import Flops


@dataclass(frozen=True)
class Level:
    """How the states before a layer become the states after it: for each branch, which states take it.

    The states after the layer stand in the order of `parents`, by code: all that skipped, then all small, then all big.
    """

    parents: dict[Branch, np.ndarray]  # int64, ascending

    @property
    def n_after(self) -> int:
        return sum(len(parent) for parent in self.parents.values())


@dataclass(frozen=True)
class Trie:
    """Levels first_layer, first_layer + 1, ...; the prefixes of the roots before them, and of the leaves after them."""

    first_layer: int
    n_roots: int
    levels: tuple[Level, ...]
    branches_PL: np.ndarray = field(repr=False)  # uint8: the branches of every leaf, those of its root included

    @property
    def n_leaves(self) -> int:
        return len(self.branches_PL)


def trie_of(branches_PL: np.ndarray, root_P: np.ndarray | None = None, n_roots: int = 1) -> tuple[Trie, np.ndarray]:
    """The tree of any set of patterns (repeats allowed), and the leaf of every row: int64, shape (P,).

    With `root_P` it is a forest: row p descends from root `root_P[p]`, a position of its own, and shares states with rows of
    the same root alone.
    """
    root_P = np.zeros(len(branches_PL), dtype=np.int64) if root_P is None else root_P.astype(np.int64)
    state_P = root_P
    levels = []
    stride = max(len(branches_PL), n_roots) + 1
    for layer in range(branches_PL.shape[1]):
        # the distinct (branch, state) pairs, in this order, are the states after the layer
        key_P = branches_PL[:, layer].astype(np.int64) * stride + state_P
        key_S, state_P = np.unique(key_P, return_inverse=True)
        branch_S, parent_S = np.divmod(key_S, stride)
        levels.append(Level({Branch(int(code)): parent_S[branch_S == code] for code in np.unique(branch_S)}))
    leaves_PL = np.empty((levels[-1].n_after, branches_PL.shape[1]), dtype=np.uint8)
    leaves_PL[state_P] = branches_PL
    return Trie(0, n_roots, tuple(levels), leaves_PL), state_P


def root_of_states(trie: Trie) -> list[np.ndarray]:
    """The root that every state before each layer descends from, and, last, that of every leaf: int64 arrays."""
    roots = [np.arange(trie.n_roots)]
    for level in trie.levels:
        roots.append(np.concatenate([roots[-1][parent_S] for parent_S in level.parents.values()]))
    return roots


@dataclass(frozen=True)
class FullTree:
    """The tree of every pattern that any of several budgets admits, and of the reference patterns, each one branch at every
    layer (all-small, all-big).

    `blocks(n)` cuts it into a top and subtrees of at most about `n` leaves each, so that it can be walked breadth-first to a
    depth and depth-first below it.
    """

    n_letters: int
    branches: tuple[Branch, ...]
    budgets: tuple[Budget, ...]
    references: tuple[Branch, ...] = (Branch.SMALL, Branch.BIG)

    def top(self, depth: int) -> Trie:
        """The tree from the root to the states before layer `depth`."""
        return self._grow(np.zeros((1, 0), dtype=np.uint8), depth)

    def below(self, roots_SL: np.ndarray) -> Trie:
        """The tree from the given prefixes to its leaves."""
        return self._grow(roots_SL, self.n_letters)

    def blocks(self, most_leaves: int, least_depth: int = 0) -> tuple[Trie, list[np.ndarray]]:
        """The top, of at least `least_depth` layers, and which of its states are the roots of each subtree (int64 indices).

        The references' own roots stand in the first subtree. A subtree has at most `most_leaves` leaves, or hangs from one
        state where even that has more: the depth is then the one that balances top and subtree.
        """
        widest = len(self.branches)
        depth = least_depth
        while (
            min(widest**depth, len(self.references)) * widest ** (self.n_letters - depth) > most_leaves
            and 2 * depth < self.n_letters
        ):
            depth += 1
        top = self.top(depth)
        per_block = max(1, most_leaves // widest ** (self.n_letters - depth))
        of_reference = np.zeros(top.n_leaves, dtype=bool)
        for reference in self.references:
            of_reference |= (top.branches_PL == reference).all(axis=1)
        order = np.concatenate([np.flatnonzero(of_reference), np.flatnonzero(~of_reference)])
        first = max(per_block, int(of_reference.sum()))
        return top, [order[:first], *(order[i : i + per_block] for i in range(first, len(order), per_block))]

    def _grow(self, roots_SL: np.ndarray, to_layer: int) -> Trie:
        prefix_SL, first_layer = roots_SL, roots_SL.shape[1]
        levels = []
        for _ in range(first_layer, to_layer):
            taken = sorted({*self.branches, *self.references})
            parents = {branch: np.flatnonzero(self._alive(prefix_SL, branch)) for branch in taken}
            parents = {branch: parent for branch, parent in parents.items() if len(parent)}
            levels.append(Level(parents))
            prefix_SL = np.concatenate(
                [
                    np.column_stack([prefix_SL[parent], np.full(len(parent), branch, dtype=np.uint8)])
                    for branch, parent in parents.items()
                ]
            )
        return Trie(first_layer, len(roots_SL), tuple(levels), prefix_SL)

    def _alive(self, prefix_SL: np.ndarray, branch: Branch) -> np.ndarray:
        """Which prefixes, followed by `branch`, begin a pattern of the tree: bool, shape (S,)."""
        left = self.n_letters - prefix_SL.shape[1] - 1
        alive_S = np.isin(prefix_SL, np.array(self.branches, dtype=np.uint8)).all(axis=1) & (branch in self.branches)
        cost_S = np.minimum(self._cost_b[prefix_SL].sum(axis=1) + branch.cost, self._most)  # beyond it stand references alone
        alive_S &= self._reaches[left][cost_S]
        for reference in self.references:
            if branch == reference:
                alive_S |= (prefix_SL == reference).all(axis=1)
        return alive_S

    @cached_property
    def _cost_b(self) -> np.ndarray:
        return code_costs(self.branches)

    @cached_property
    def _most(self) -> int:
        return self.n_letters * max(1, *(branch.cost for branch in self.branches))

    @cached_property
    def _reaches(self) -> list[np.ndarray]:
        """By how many letters are left: which costs so far can come to a total that some budget admits."""
        reaches = [np.any([budget.allows(self._most) for budget in self.budgets], axis=0)]
        for _ in range(self.n_letters):
            before, after = np.zeros(self._most + 1, dtype=bool), reaches[-1]
            for cost in {branch.cost for branch in self.branches}:
                before[: self._most + 1 - cost] |= after[cost:]
            reaches.append(before)
        return reaches


def necessary_operations(levels: Sequence[Level], flops: Flops) -> float:
    """Floating-point operations that a walk over the levels cannot do without: one attention for every state before a layer,
    one FFN for every state that takes its branch. `flops` are those of one state, where a skipped FFN leaves attention alone."""
    total, n_states = 0.0, 1
    for level in levels:
        total += n_states * flops.skip
        total += sum(len(parent) * (flops.of(branch) - flops.skip) for branch, parent in level.parents.items())
        n_states = level.n_after
    return total
