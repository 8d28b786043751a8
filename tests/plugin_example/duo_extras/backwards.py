"""All patterns of the space, from the last in the order of ties to the first: as exhaustive, the other way round."""

from __future__ import annotations

from typing import Any

import numpy as np

from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.strategy import Proposals, Strategy, Trials


class Backwards(Strategy):
    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        self._waiting = np.array([pattern.branches for pattern in space], dtype=np.uint8)[::-1]

    def ask(self, n: int) -> Proposals:
        next_PL, self._waiting = self._waiting[:n], self._waiting[n:]
        return Proposals(np.repeat(np.arange(self.n_tokens), len(next_PL)), np.tile(next_PL, (self.n_tokens, 1)))

    def tell(self, trials: Trials) -> None:
        """Nothing to learn: all are tried."""
