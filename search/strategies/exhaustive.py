"""Exhaustive search: every pattern of the space. Where the scorer has an exact oracle it proves the best without asking for all.

Axes: P patterns, L layers.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from duo_oracle.oracle.patterns import to_array
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.strategy import Proposals, Strategy, Trials


class Exhaustive(Strategy):
    covers_space = True

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        self._patterns = iter(space)

    def ask(self, n: int) -> Proposals:
        block = list(islice(self._patterns, n))
        branches_PL = to_array(block).reshape(len(block), self.space.n_letters)
        return Proposals(np.repeat(np.arange(self.n_tokens), len(block)), np.tile(branches_PL, (self.n_tokens, 1)))

    def tell(self, trials: Trials) -> None:
        """Nothing to learn: the next patterns do not depend on the last."""
