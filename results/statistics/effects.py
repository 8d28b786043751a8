"""Measured statements and the one rule of verdicts: is a paper's finding there, and is it there beyond its control?

Every number is a signed sum of ratios over tokens (a mean, a difference of two groups' means, real minus control), with the
interval of `results/statistics/intervals.py`, paired by document. Knows no figure.

Axes: N tokens, D documents, M ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from duo_oracle.results.statistics.intervals import Estimate, contrast


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums over tokens, by document: the mean of a value, or of a value with weights."""

    documents: tuple[str, ...]
    sum_D: np.ndarray
    count_D: np.ndarray


def ratio(document_N: np.ndarray, value_N: np.ndarray, weight_N: np.ndarray | None = None) -> Ratio:
    """sum of `value_N` / sum of `weight_N` (default: the number of tokens). To take the mean over a group of tokens, give
    the value times the group's indicator, and the indicator as weight.
    """
    names, document_N = np.unique(np.asarray(document_N), return_inverse=True)
    weight_N = np.ones(len(document_N)) if weight_N is None else np.asarray(weight_N, dtype=np.float64)
    sums = (np.bincount(document_N, weights=np.asarray(each, dtype=np.float64)) for each in (value_N, weight_N))
    return Ratio(tuple(str(name) for name in names), *sums)


def mean_over(document_N: np.ndarray, value_N: np.ndarray, group_N: np.ndarray) -> Ratio:
    """The mean of `value_N` over the tokens of a group (bool)."""
    return ratio(document_N, np.where(group_N, value_N, 0.0), group_N)


def estimate(*terms: tuple[float, Ratio]) -> Estimate:
    """The sum of weight x ratio over `terms`, with its interval: documents of equal name are drawn together.

    NaN where a ratio has no token: a statement about a group that the text does not hold is not found.
    """
    names = sorted({name for _, term in terms for name in term.documents})
    row_of = {name: row for row, name in enumerate(names)}
    sums_DM = np.zeros((len(names), len(terms)))
    counts_DM = np.zeros_like(sums_DM)
    for column, (_, term) in enumerate(terms):
        rows = [row_of[name] for name in term.documents]
        sums_DM[rows, column], counts_DM[rows, column] = term.sum_D, term.count_D
    if not np.all(counts_DM.sum(axis=0) > 0):
        return Estimate(np.nan, np.nan, np.nan, 0, len(names))
    return contrast(sums_DM, counts_DM, np.array([weight for weight, _ in terms]))


class Verdict(StrEnum):
    """What a measurement says of a finding, from the weakest to the strongest."""

    NOT_FOUND = "not found"
    BIAS = "not distinguishable from selection bias"
    FOUND = "found"


@dataclass(frozen=True)
class Effect:
    """One measured statement, signed so that the paper's direction is positive."""

    what: str
    unit: str
    raw: Estimate
    beyond: Estimate
    """The same beyond its control: minus what the control shows."""

    @property
    def verdict(self) -> Verdict:
        """found: the 95% intervals of the effect and of the effect beyond its control lie above zero.

        not distinguishable from selection bias: that of the effect does, beyond the control it does not. not found: otherwise.
        """
        if not self.raw.low > 0:  # also where there is one document, and no interval
            return Verdict.NOT_FOUND
        return Verdict.FOUND if self.beyond.low > 0 else Verdict.BIAS

    def __str__(self) -> str:
        return f"{self.what}: {self.raw} {self.unit}; beyond its control {self.beyond}"


def effect(what: str, unit: str, real: Sequence[tuple[float, Ratio]], control: Sequence[tuple[float, Ratio]]) -> Effect:
    """The effect whose control is the same sum of ratios elsewhere, or with other labels."""
    beyond = [*real, *((-weight, term) for weight, term in control)]
    return Effect(what, unit, estimate(*real), estimate(*beyond))


def weakest(effects: Sequence[Effect]) -> Effect:
    """The one that decides where a finding makes several statements: that of the weakest verdict, and of these of the
    interval that lies lowest in units of its width."""
    order = list(Verdict)

    def place(one: Effect) -> tuple[int, float]:
        deciding = one.raw if one.verdict is Verdict.NOT_FOUND else one.beyond
        width = deciding.high - deciding.low
        return order.index(one.verdict), deciding.low / width if width > 0 else float("-inf")  # also where it is NaN

    return min(effects, key=place)
