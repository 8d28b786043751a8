"""Means with intervals over trainings *and* documents: another seed is another model, and moves a loss as other text does.

The variance of a mean over seeds and documents is taken as that of the seeds' means over their number, plus that of the
documents with the seeds held as they are; the interval is Student's, its degrees of freedom by Satterthwaite. Models of one
seed are paired, and so are tokens.

Axes: S seeds, N tokens, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.statistics.intervals import LEVEL, bootstrap_sums, student_quantile


@dataclass(frozen=True)
class Values:
    """Values of tokens, each of a document, from one model or from a pair of one seed."""

    document_N: np.ndarray
    value_N: np.ndarray


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds and documents. The bounds are NaN where there is one seed, from which none can be had."""

    mean: float
    low: float
    high: float
    n_seeds: int
    n_documents: int
    seed_sd: float
    """How far the seeds' own means lie apart: their standard deviation."""

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]" if math.isfinite(self.low) else f"{self.mean:+.3f}"


def over_seeds(seeds: Sequence[Values]) -> OverSeeds:
    """The mean of the seeds' means over tokens. All seeds have the same documents. Raises InputError where they have not, or none.

    >>> document_N = np.array([0, 0, 1, 1])
    >>> found = over_seeds([Values(document_N, np.full(4, value)) for value in (1.0, 2.0, 3.0)])
    >>> found.mean, round(found.high - found.mean, 2)  # t of two degrees of freedom, 4.30, times 1 / sqrt(3)
    (2.0, 2.48)
    """
    if not seeds:
        raise InputError("a mean over seeds is taken over one or more; there are none")
    names, _ = np.unique(seeds[0].document_N, return_inverse=True)
    sums_D, counts_D, means = np.zeros(len(names)), np.zeros(len(names)), []
    for one in seeds:
        own, document_N = np.unique(one.document_N, return_inverse=True)
        if len(own) != len(names) or not np.array_equal(own, names):
            raise InputError("the seeds of a mean have the same documents; these differ")
        np.add.at(sums_D, document_N, one.value_N)
        np.add.at(counts_D, document_N, 1.0)
        means.append(float(np.mean(one.value_N)))
    mean, n = float(np.mean(means)), len(means)
    seed_sd = float(np.std(means, ddof=1)) if n > 1 else math.nan
    if n < 2:
        return OverSeeds(mean, math.nan, math.nan, n, len(names), seed_sd)
    by_seeds = seed_sd**2 / n
    (documents,) = bootstrap_sums(sums_D[:, None], counts_D[:, None])
    by_documents = 0.0 if not math.isfinite(documents.error) else documents.error**2
    total = by_seeds + by_documents
    below = by_seeds**2 / (n - 1) + by_documents**2 / max(1, len(names) - 1)
    freedom = total**2 / below if below > 0 else float(n - 1)
    half = student_quantile((1 + LEVEL) / 2, freedom) * math.sqrt(total)
    return OverSeeds(mean, mean - half, mean + half, n, len(names), seed_sd)


def difference(left: Sequence[Values], right: Sequence[Values]) -> OverSeeds:
    """left - right, paired by seed and by token."""
    return over_seeds([Values(one.document_N, one.value_N - other.value_N) for one, other in zip(left, right, strict=True)])
