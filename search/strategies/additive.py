"""Additive search: one evaluation per layer and branch from a base pattern, the losses added up, the best guesses evaluated.

As if layers did not interact: the effect of a branch at a layer is the loss of the base with that one change, less the base's
loss. Every pattern's estimate is then a sum over layers, and the m patterns of least estimate in the budget are found without
trying all (`search/asking/sums.py`). With L layers and b branches: at most 1 + L (b - 1) + m evaluations, whatever the budget.
Layers do interact, so effects are best measured near the middle of the space, where every pattern is at most about half the
layers away.

Axes: N tokens, L layers, b branches, C single changes, R guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from duo_oracle.oracle.base.settings import setting
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search import strategy
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy
from duo_oracle.search.asking.starts import check_start, named_start
from duo_oracle.search.asking.sums import least_sums
from duo_oracle.search.strategy import Proposals

_UNKNOWN = 1e6  # nats: the effect of a branch whose evaluation failed


class Additive(RoundStrategy):
    proposes_outside_budget = True

    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        top: int = setting(16, "guesses evaluated", least=1)
        base: str = setting(
            "spread",
            "what the effects are measured from: spread (half the layers big, or the nearest that the budget admits), small, big, "
            "or a pattern",
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_start("base", self.base, ("spread", "small", "big"))

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        self._base_L = named_start(space, settings.base)

    def search(self) -> Rounds:
        space, n_tokens, base_L = self.space, self.n_tokens, self._base_L
        layer_C, index_C = (axis.ravel() for axis in np.indices((space.n_letters, len(space.branches))))
        branch_C = np.array(space.branches, dtype=np.uint8)[index_C]
        single_CL = np.tile(base_L, (len(layer_C), 1))
        single_CL[np.arange(len(layer_C)), layer_C] = branch_C
        loss_NLb = yield Proposals(np.repeat(np.arange(n_tokens), len(layer_C)), np.tile(single_CL, (n_tokens, 1)))
        loss_NLb = loss_NLb.reshape(n_tokens, space.n_letters, len(space.branches))
        base_N11 = loss_NLb[:, :1, space.branches.index(int(base_L[0]))][..., None]
        failed = ~np.isfinite(loss_NLb)
        effect_NLb = np.where(failed, _UNKNOWN, np.where(failed, 0.0, loss_NLb) - np.where(np.isfinite(base_N11), base_N11, 0.0))
        n_guesses = min(self.settings.top, space.size)
        guess_RL = least_sums(space, effect_NLb, n_guesses).reshape(-1, space.n_letters)
        yield Proposals(np.repeat(np.arange(n_tokens), n_guesses), guess_RL)
