"""Scorers that stand in for a model: a strategy is tested on losses that are known, in milliseconds."""

from __future__ import annotations

import numpy as np


class TableScorer:
    """Losses that are a sum of one effect per layer and branch, and, times `interaction`, one per pair of layers and branches.

    `fails` is the share of (place, pattern) whose loss is not a number, always the same ones. Branches have codes below `n_codes`.
    """

    n_labels = n_targets = 1

    def __init__(
        self, n_places: int, n_letters: int, interaction: float = 0.0, seed: int = 0, fails: float = 0.0, n_codes: int = 3
    ) -> None:
        generator = np.random.default_rng(seed)
        self.n_places, self._fails = n_places, fails
        self._effect_NLb = generator.normal(size=(n_places, n_letters, n_codes))
        self._pair_NLLbb = interaction * generator.normal(size=(n_places, n_letters, n_letters, n_codes, n_codes))
        self.asked: list[tuple[int, bytes]] = []

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        self.asked += zip(place_R.tolist(), map(bytes, branches_RL), strict=True)
        loss_R = self.losses(place_R, branches_RL)
        hash_R = (branches_RL.astype(np.int64) @ 3 ** np.arange(branches_RL.shape[1]) * 7919 + place_R * 104729) % 1000
        return np.where(hash_R < 1000 * self._fails, np.nan, loss_R)

    def losses(self, place_R: np.ndarray, branches_RL: np.ndarray) -> np.ndarray:
        layer_L = np.arange(branches_RL.shape[1])
        own_R = self._effect_NLb[place_R[:, None], layer_L, branches_RL].sum(axis=1)
        pair_RLL = self._pair_NLLbb[
            place_R[:, None, None], layer_L[:, None], layer_L, branches_RL[:, :, None], branches_RL[:, None, :]
        ]
        return 20 + own_R + pair_RLL.sum(axis=(1, 2))
