"""Means over tokens with 95% intervals from resampling whole documents, in one place.

Tokens of a document are not independent, so documents are drawn with replacement (the cluster bootstrap). A mean over
tokens is then a ratio of sums, sum of values / number of tokens, and both sums are redrawn together. Differences are
paired: give the difference of two values per token. Knows numbers only, nothing of runs.

A percentile interval of D documents is too narrow by about sqrt((D-1)/D) and by normal against t quantiles. Its levels are
widened for that, as in Hesterberg, "What Teachers Should Know About the Bootstrap" (2015), section 4.3: level
alpha/2 becomes Phi(-sqrt(D/(D-1)) t_{alpha/2, D-1}). Below about ten documents even this is a rough guide.

Axes: N tokens, D documents, M measures, S resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
RESAMPLES = 4000
_BLOCK = 1 << 22  # draws held at once, so that many documents do not take much memory


@dataclass(frozen=True)
class Estimate:
    """A mean over tokens and its interval; the bounds are NaN where there is one document, from which none can be had."""

    mean: float
    low: float
    high: float
    n_tokens: int
    n_documents: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]" if math.isfinite(self.low) else f"{self.mean:.3f}"


def bootstrap(values_NM: np.ndarray, document_N: np.ndarray, seed: int = 0) -> list[Estimate]:
    """The mean of every column of `values_NM` over tokens, with its interval; the same resamples serve all columns.

    `document_N` says which document a token is of (any integers or strings). NaN values are left out of their column.
    Raises ValueError where a column has no value.
    """
    values_NM = np.asarray(values_NM, dtype=np.float64)
    _, document_N = np.unique(np.asarray(document_N), return_inverse=True)
    n_documents = int(document_N.max(initial=-1)) + 1
    known_NM = ~np.isnan(values_NM)
    sums_DM = np.zeros((n_documents, values_NM.shape[1]))
    counts_DM = np.zeros_like(sums_DM)
    np.add.at(sums_DM, document_N, np.where(known_NM, values_NM, 0.0))
    np.add.at(counts_DM, document_N, known_NM)
    return bootstrap_sums(sums_DM, counts_DM, seed)


def bootstrap_sums(sums_DM: np.ndarray, counts_DM: np.ndarray, seed: int = 0) -> list[Estimate]:
    """As `bootstrap`, from the sums and numbers of tokens of every document."""
    totals_M = counts_DM.sum(axis=0)
    if not np.all(totals_M > 0):
        raise ValueError("a mean is taken over one token or more; there are none")
    mean_M = sums_DM.sum(axis=0) / totals_M
    n_documents_M = (counts_DM > 0).sum(axis=0)
    ratio_SM = _resampled(sums_DM, counts_DM, seed)
    estimates = []
    for column, mean in enumerate(mean_M):
        n_documents = int(n_documents_M[column])
        low = high = math.nan
        if n_documents > 1:
            tail = widened_tail(n_documents)
            low, high = np.nanquantile(ratio_SM[:, column], [tail, 1 - tail])
        estimates.append(Estimate(float(mean), float(low), float(high), int(totals_M[column]), n_documents))
    return estimates


def contrast(sums_DM: np.ndarray, counts_DM: np.ndarray, weight_M: np.ndarray, seed: int = 0) -> Estimate:
    """A weighted sum of ratios of sums over documents, such as a difference of two groups' means; paired by document.

    A resample without a token of some ratio says nothing and is left out. Raises ValueError where a ratio has no token.
    """
    if not np.all(counts_DM.sum(axis=0) > 0):
        raise ValueError("a mean is taken over one token or more; there are none")
    weight_M = np.asarray(weight_M, dtype=np.float64)
    mean = float(sums_DM.sum(axis=0) / counts_DM.sum(axis=0) @ weight_M)
    n_documents = len(sums_DM)
    low = high = math.nan
    if n_documents > 1:
        tail = widened_tail(n_documents)
        low, high = np.nanquantile(_resampled(sums_DM, counts_DM, seed) @ weight_M, [tail, 1 - tail])
    return Estimate(mean, float(low), float(high), int(counts_DM.max(axis=1).sum()), n_documents)


def widened_tail(n_documents: int, level: float = LEVEL) -> float:
    """The share of resamples that each side of a percentile interval leaves out, widened for few documents."""
    t = student_quantile((1 + level) / 2, n_documents - 1)
    return NormalDist().cdf(-math.sqrt(n_documents / (n_documents - 1)) * t)


@lru_cache
def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t: with t = sqrt(f) tan(a) the density is proportional to cos(a)^(f-1), summed on a grid."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, 200_001)
    density = np.cos(angle) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(probability, share / share[-1], angle)))


def _resampled(sums_DM: np.ndarray, counts_DM: np.ndarray, seed: int) -> np.ndarray:
    n_documents = len(sums_DM)
    rng = np.random.default_rng(seed)
    ratios = []
    step = max(1, _BLOCK // n_documents)
    for start in range(0, RESAMPLES, step):
        n_draws = min(step, RESAMPLES - start)
        times_SD = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), size=n_draws).astype(np.float64)
        tokens_SM = times_SD @ counts_DM
        with np.errstate(invalid="ignore", divide="ignore"):
            # A measure known in few documents may be missed by a resample: that one says nothing of it.
            ratios.append(np.where(tokens_SM > 0, times_SD @ sums_DM / tokens_SM, np.nan))
    return np.concatenate(ratios)
