"""The labels of the null gain: what the next token would be, were the all-big model the truth; and what is gained on them.

With a temperature T the labels are drawn from all-big's distribution raised to 1/T: with a T fitted on other documents, from a
calibrated all-big. The gain stays that over all-big as it is, loss_full(y') - least loss(y').

Axes: N places, R draws, Y labels (the real one, then the drawn), Q budgets, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.engine.head import Head

SAME_GAIN = 1e-5
"""Gains so near, in nats, are equal: a drawn label that is the real one gains as much, whatever the rounding."""


@dataclass(frozen=True)
class NullLabels:
    """How labels are drawn: `draws` per position from the all-big pattern's distribution there, at a temperature.

    `temperatures` names sequences that have another than `temperature`. The generator of a position is seeded with (seed,
    sequence, position), so draws depend on nothing else.
    """

    draws: int = 0
    seed: int = 0
    temperature: float = 1.0
    temperatures: Mapping[int, float] = field(default_factory=dict)

    def labels(self, head: Head, h_big_ND: Tensor, target_N: Tensor, names: Sequence[tuple[int, int]]) -> Tensor:
        """The real label and the drawn ones, int64 (N, 1 + draws). `names` are the places' (sequence, position)."""
        if not self.draws:
            return target_N[:, None]
        uniform_NR = np.array([np.random.default_rng((self.seed, *name)).random(self.draws) for name in names])
        temperature_N1 = np.array([[self.temperatures.get(sequence, self.temperature)] for sequence, _ in names])
        drawn = []
        for rows in chunks(len(h_big_ND), 64):
            temperature = torch.from_numpy(temperature_N1[rows]).to(h_big_ND.device)
            cumulative_NV = head.probabilities(h_big_ND[rows], temperature).cumsum(dim=1)
            wanted_NR = torch.from_numpy(uniform_NR[rows]).to(cumulative_NV) * cumulative_NV[:, -1:]
            drawn.append(torch.searchsorted(cumulative_NV, wanted_NR, right=True).clamp_(max=cumulative_NV.shape[1] - 1))
        return torch.cat([target_N[:, None], torch.cat(drawn)], dim=1)


@dataclass(frozen=True)
class NullGains:
    """What the oracle gains on the drawn labels of N places under Q budgets; NaN where none were drawn."""

    gain_NQ: np.ndarray
    """Mean over the drawn labels of loss_full - least loss."""
    difficulty_NQ: np.ndarray
    """Mean over the drawn labels of loss_cheapest - least loss."""
    above_NQ: np.ndarray
    """How many drawn labels have a difficulty as great as the real one's. If all-big were the truth, the real label and the R
    drawn ones would be alike, and none would be above with probability at most 1 / (R + 1)."""

    @classmethod
    def of(cls, loss_NYQ: np.ndarray, small_NY: np.ndarray, big_NY: np.ndarray) -> NullGains:
        n, n_labels, q = loss_NYQ.shape
        if n_labels == 1:
            return cls(*(np.full((n, q), np.nan) for _ in range(3)))
        gain_NYQ, difficulty_NYQ = big_NY[:, :, None] - loss_NYQ, small_NY[:, :, None] - loss_NYQ
        above_NQ = (difficulty_NYQ[:, 1:] >= difficulty_NYQ[:, :1] - SAME_GAIN).sum(axis=1).astype(np.float64)
        return cls(gain_NYQ[:, 1:].mean(axis=1), difficulty_NYQ[:, 1:].mean(axis=1), above_NQ)
