"""Linear predictions with cross-fitting: ridge regressions whose every prediction is made by what other documents taught.

The strength of the ridge is chosen inside the documents that teach. Knows numbers only.

Axes: N rows, F features, C targets, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError

RIDGES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
"""Strengths tried, as multiples of the mean of the features' variances."""
DEFAULT_RIDGE = 1.0
"""Where there is one group to learn from, and none to choose the strength by."""


@dataclass(frozen=True)
class Linear:
    """x -> intercept + x @ slope; the intercept is not shrunk."""

    intercept_C: np.ndarray
    slope_FC: np.ndarray
    ridge: float

    def __call__(self, x_NF: np.ndarray) -> np.ndarray:
        return self.intercept_C + x_NF @ self.slope_FC


def folds_of(document_N: np.ndarray, n_folds: int) -> np.ndarray:
    """The fold of every row, 0 to n_folds - 1 (fewer where there are fewer documents): whole documents, the largest dealt first to
    the fold that has the fewest rows.

    Raises InputError where there is one document, whose rows could be predicted by no other.

    >>> folds_of(np.array(["a", "a", "a", "b", "c", "c"]), 2)
    array([0, 0, 0, 1, 1, 1])
    """
    documents, of_row_N, size_D = np.unique(document_N, return_inverse=True, return_counts=True)
    if len(documents) < 2:
        raise InputError("what is predicted is learnt from other documents; there is one")
    rows_G, fold_D = np.zeros(min(n_folds, len(documents)), dtype=np.int64), np.empty(len(documents), dtype=np.int64)
    for document in np.argsort(-size_D, kind="stable"):
        fold_D[document] = rows_G.argmin()
        rows_G[fold_D[document]] += size_D[document]
    return fold_D[of_row_N]


def fit(x_NF: np.ndarray, y_NC: np.ndarray, group_N: np.ndarray, ridges: Sequence[float] = RIDGES) -> Linear:
    """The ridge regression of y on x, of the strength that predicts each group best from the others."""
    groups = np.unique(group_N)
    best = DEFAULT_RIDGE
    if len(groups) > 1 and len(ridges) > 1:
        error_R = np.zeros(len(ridges))
        for group in groups:
            held = group_N == group
            for number, linear in enumerate(_solved(x_NF[~held], y_NC[~held], ridges)):
                error_R[number] += np.square(y_NC[held] - linear(x_NF[held])).sum()
        best = ridges[int(error_R.argmin())]
    elif len(ridges) == 1:
        (best,) = ridges
    (linear,) = _solved(x_NF, y_NC, (best,))
    return linear


def cross_fitted(x_NF: np.ndarray, y_NC: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """Predictions of y, each row's by the regression on the other folds' rows: float64 (N, C)."""
    found_NC = np.empty(y_NC.shape, dtype=np.float64)
    for fold in np.unique(fold_N):
        held = fold_N == fold
        found_NC[held] = fit(x_NF[~held], y_NC[~held], fold_N[~held])(x_NF[held])
    return found_NC


def means_of_others(y_NC: np.ndarray, fold_N: np.ndarray) -> np.ndarray:
    """The mean of y over the other folds' rows, at every row: what a prediction without features is."""
    found_NC = np.empty(y_NC.shape, dtype=np.float64)
    for fold in np.unique(fold_N):
        found_NC[fold_N == fold] = y_NC[fold_N != fold].mean(axis=0)
    return found_NC


def explained(y_NC: np.ndarray, predicted_NC: np.ndarray, baseline_NC: np.ndarray) -> float:
    """R^2: the share of the squared error of `baseline` that the prediction takes away, over all targets."""
    around = float(np.square(y_NC - baseline_NC).sum())
    return 1 - float(np.square(y_NC - predicted_NC).sum()) / around if around > 0 else 0.0


def _solved(x_NF: np.ndarray, y_NC: np.ndarray, ridges: Sequence[float]) -> list[Linear]:
    """One regression for every strength, from one decomposition."""
    x_NF, y_NC = np.asarray(x_NF, dtype=np.float64), np.asarray(y_NC, dtype=np.float64)
    mean_F, mean_C = x_NF.mean(axis=0), y_NC.mean(axis=0)
    centred_NF = x_NF - mean_F
    value_F, vector_FF = np.linalg.eigh(centred_NF.T @ centred_NF)
    turned_FC = vector_FF.T @ (centred_NF.T @ (y_NC - mean_C))
    scale = max(float(value_F.mean()), 1e-300)
    found = []
    for ridge in ridges:
        slope_FC = vector_FF @ (turned_FC / (np.maximum(value_F, 0) + ridge * scale)[:, None])
        found.append(Linear(mean_C - mean_F @ slope_FC, slope_FC, ridge))
    return found
