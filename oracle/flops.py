"""Floating-point operations of one token's forward pass, by what it does at each layer. Knows no model: its numbers are given.

Axes: N tokens, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.branches import DUO, Branch


@dataclass(frozen=True)
class Flops:
    """What one token takes: the vocabulary head once, and at each routed layer what its branch says."""

    head: float
    skip: float
    small: float
    big: float

    def of(self, branch: Branch) -> float:
        return (self.skip, self.small, self.big)[branch]

    def per_token(self, branches_NL: np.ndarray) -> float:
        """The mean over tokens that take these patterns."""
        return self.head + sum(float((branches_NL == b).sum(axis=1).mean()) * self.of(b) for b in DUO.branches)

    def of_budget(self, budget: float, n_letters: int, cheapest: Branch) -> float:
        """The mean over tokens of so many B's on average, all their other layers being of the cheapest branch."""
        return self.head + budget * self.big + (n_letters - budget) * self.of(cheapest)
