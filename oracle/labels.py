"""The labels of the null gain: what the next token would be, were the all-big model the truth.

Axes: N places, R draws, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oracle.head import Head
from oracle.trie import chunks


@dataclass(frozen=True)
class NullLabels:
    """How labels are drawn: `draws` per position from the all-big pattern's distribution there, at a temperature.

    The generator of a position is seeded with (seed, sequence, position), so draws depend on nothing else.
    """

    draws: int = 0
    seed: int = 0
    temperature: float = 1.0

    def labels(self, head: Head, h_big_ND: Tensor, target_N: Tensor, names: Sequence[tuple[int, int]]) -> Tensor:
        """The real label and the drawn ones, int64 (N, 1 + draws). `names` are the places' (sequence, position)."""
        if not self.draws:
            return target_N[:, None]
        uniform_NR = np.array([np.random.default_rng((self.seed, *name)).random(self.draws) for name in names])
        drawn = []
        for rows in chunks(len(h_big_ND), 64):
            cumulative_NV = head.probabilities(h_big_ND[rows], self.temperature).cumsum(dim=1)
            wanted_NR = torch.from_numpy(uniform_NR[rows]).to(cumulative_NV) * cumulative_NV[:, -1:]
            drawn.append(torch.searchsorted(cumulative_NV, wanted_NR, right=True).clamp_(max=cumulative_NV.shape[1] - 1))
        return torch.cat([target_N[:, None], torch.cat(drawn)], dim=1)
