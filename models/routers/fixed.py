"""Fixed routing: every token takes one pattern, `fixed:BsBs`. The line that a router must beat to have learned of tokens.

Axes: B batch, T token, D hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.models.router import Choose, Router, TokenBatch
from duo_oracle.oracle.patterns import RoutingPattern


class Fixed(Router):
    """The same pattern for every token."""

    name = "fixed"

    def __init__(self, pattern: RoutingPattern) -> None:
        self.pattern, self.spec = pattern, f"fixed:{pattern}"
        self.branches = tuple(sorted(set(pattern.branches)))
        self.budget = float(pattern.n_big)
        self.n_letters = pattern.n_letters

    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        assert n_letters == self.pattern.n_letters

        def choose(layer: int, x_BTD: Tensor) -> Tensor:
            return torch.full(x_BTD.shape[:2], int(self.pattern.branches[layer]), device=x_BTD.device)

        return choose


def parse(argument: str) -> Fixed:
    """`fixed:PATTERN`. Raises InputError for what is no pattern."""
    return Fixed(RoutingPattern.parse(argument))
