"""Random search: patterns drawn uniformly from the space, per token or one set for all tokens, without or with replacement.

"The best of 100 random patterns" has both readings; `shared` chooses.

Axes: R rows, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from duo_oracle.oracle.base.settings import setting
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search import strategy
from duo_oracle.search.strategy import Proposals, Strategy, Trials


class RandomSearch(Strategy):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        n: int = setting(100, "patterns per token", least=1)
        shared: bool = setting(False, "one set for all tokens")
        replacement: bool = setting(False, "repeats are allowed")

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        n_sets = 1 if settings.shared else n_tokens
        if settings.replacement:
            drawn_NPL = space.sample(n_sets * settings.n, generator).reshape(n_sets, settings.n, space.n_letters)
        else:
            drawn_NPL = _distinct(space, n_sets, min(settings.n, space.size), generator)
        self._drawn_NPL = np.broadcast_to(drawn_NPL, (n_tokens, *drawn_NPL.shape[1:]))
        self._asked = 0

    def ask(self, n: int) -> Proposals:
        next_NPL = self._drawn_NPL[:, self._asked : self._asked + n]
        self._asked += next_NPL.shape[1]
        return Proposals(np.repeat(np.arange(self.n_tokens), next_NPL.shape[1]), next_NPL.reshape(-1, self.space.n_letters))

    def tell(self, trials: Trials) -> None:
        """Nothing to learn: the draws do not depend on losses."""


def _distinct(space: SearchSpace, n_sets: int, n: int, generator: np.random.Generator) -> np.ndarray:
    """`n_sets` sets of `n` distinct patterns, uint8 (n_sets, n, L), all sets drawn side by side."""
    if 2 * n > space.size:
        everything_PL = space.sample_distinct(space.size, generator)
        return np.stack([everything_PL[generator.permutation(space.size)[:n]] for _ in range(n_sets)])
    set_R, drawn_RL = np.empty(0, dtype=np.int64), np.empty((0, space.n_letters), dtype=np.uint8)
    missing_N = np.full(n_sets, n)
    while missing_N.any():  # at most half the space is taken, so a draw is new with probability of at least a half
        new_R = np.repeat(np.arange(n_sets), 2 * missing_N)
        set_R = np.concatenate([set_R, new_R])
        drawn_RL = np.concatenate([drawn_RL, space.sample(len(new_R), generator)])
        _, first = np.unique(np.column_stack([set_R, drawn_RL.astype(np.int64)]), axis=0, return_index=True)
        first.sort()
        set_R, drawn_RL = set_R[first], drawn_RL[first]
        missing_N = np.maximum(n - np.bincount(set_R, minlength=n_sets), 0)
    order = np.argsort(set_R, kind="stable")
    starts = np.searchsorted(set_R[order], np.arange(n_sets))
    return drawn_RL[order[starts[:, None] + np.arange(n)]]
