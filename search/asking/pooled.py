"""The places of several scorers as those of one: tokens of many sequences are searched side by side, or as one set.

Knows neither models nor strategies.

Axes: R rows, N places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duo_oracle.oracle.engine.scorer import Scorer


class PooledScorer:
    """A `Scorer`: the places of the first scorer, then those of the second, and so on. All have as many targets."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = tuple(scorers)
        self._ends = np.cumsum([scorer.n_places for scorer in scorers])
        self.n_places = int(self._ends[-1])
        self.n_labels, self.n_targets = scorers[0].n_labels, scorers[0].n_targets

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        label_R = np.zeros(len(place_R), dtype=np.int64) if label_R is None else label_R
        loss_R = np.empty(len(place_R))
        of_scorer_R = np.searchsorted(self._ends, place_R, side="right")
        for number in np.unique(of_scorer_R):
            rows, scorer = np.flatnonzero(of_scorer_R == number), self._scorers[number]
            first = self._ends[number] - scorer.n_places
            loss_R[rows] = scorer.score(place_R[rows] - first, branches_RL[rows], label_R[rows])
        return loss_R
