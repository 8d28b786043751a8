"""One number for a router of several budgets: the mean height of its hull over all costs, after RouterBench (arXiv:2403.12031).

Quality is the gain over the cheapest pattern in nats per token. A router's points, one per budget that it was made for, stand
between the cheapest pattern and the full one, which everybody has; what lies on a line between two points is had by taking each for
a share of the tokens. The hull is the best of that at every cost, never falling, and AIQ (average improvement in quality) its mean
over the costs from the cheapest to the full pattern. Lines that are no routers are held to the same: a router is worth no more than
its lead over them.

Axes: S resamples, P points by cost, N tokens, D documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from duo_oracle.results.compare.plane import Plane, Routed
from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate, document_sums, estimate_columns, functional

ENDS = "cheapest and full alone"
"""The line that knows nothing: each of the two for a share of the tokens."""


@dataclass(frozen=True)
class Hull:
    """A family of routers, or a line that is none: its points by cost, their hull, and AIQ with its lead over the ends alone."""

    name: str
    cost_P: np.ndarray
    gain_P: np.ndarray  # nats per token over the cheapest pattern
    hull_P: np.ndarray
    aiq: Estimate
    lead: Estimate


def family_of(name: str) -> str:
    """A router's name without the budget at its end.

    >>> family_of("duo-tiny/budget-4"), family_of("mine"), family_of("random-2.5")
    ('duo-tiny/budget', 'mine', 'random')
    """
    return re.sub(r"-\d+(\.\d+)?$", "", name)


def upper_hull(cost_P: np.ndarray, gain_SP: np.ndarray) -> np.ndarray:
    """hull_SP: the least concave function over points of rising cost, not falling, at these costs.

    >>> upper_hull(np.array([0.0, 1.0, 2.0, 4.0]), np.array([[0.0, 0.1, 1.0, 0.5]]))
    array([[0. , 0.5, 1. , 1. ]])
    """
    found_SP = gain_SP.copy()
    for low in range(len(cost_P)):
        for high in range(low + 2, len(cost_P)):
            for at in range(low + 1, high):
                share = (cost_P[at] - cost_P[low]) / (cost_P[high] - cost_P[low])
                np.maximum(found_SP[:, at], (1 - share) * gain_SP[:, low] + share * gain_SP[:, high], out=found_SP[:, at])
    return np.maximum.accumulate(found_SP, axis=1)


def hulls(plane: Plane, routers: Sequence[Routed]) -> list[Hull]:
    """Each family of routers, after the lines that are no routers: the ends alone, random, best fixed, and the oracle."""
    ends = {0.0: plane.loss_cheapest_N, float(plane.n_letters): plane.loss_full_N}
    whole = range(1, plane.n_letters)
    lines = {
        ENDS: {},
        "random": {float(k): plane.random_KN[k] for k in whole},
        "best fixed": {float(k): plane.fixed_KN[k] for k in whole},
        "oracle": {float(k): plane.oracle_KN[k] for k in whole},
    }
    for routed in routers:
        lines.setdefault(family_of(routed.name), {})[float(routed.n_big_N.mean())] = routed.loss_N
    known = {name: {k: loss_N for k, loss_N in points.items() if not np.isnan(loss_N).any()} for name, points in lines.items()}
    return [_hull(name, plane, ends | points) for name, points in known.items() if points or name == ENDS]


def _hull(name: str, plane: Plane, loss_of: dict[float, np.ndarray]) -> Hull:
    cost_P = np.array(sorted(loss_of))
    gain_NP = np.stack([plane.loss_cheapest_N - loss_of[cost] for cost in cost_P], axis=1)
    sums_DP, counts_DP = document_sums(gain_NP, plane.document_N)
    height = float(cost_P[-1])

    def aiq(gain_SP: np.ndarray) -> np.ndarray:
        return np.trapezoid(upper_hull(cost_P, gain_SP), cost_P, axis=1) / height

    def lead(gain_SP: np.ndarray) -> np.ndarray:
        return aiq(gain_SP) - np.maximum(gain_SP[:, -1], 0) / 2

    gain_P = gain_NP.mean(axis=0)
    return Hull(
        name,
        cost_P,
        gain_P,
        upper_hull(cost_P, gain_P[None])[0],
        functional(sums_DP, counts_DP, aiq),
        functional(sums_DP, counts_DP, lead),
    )


def as_table(found: Iterable[Hull]) -> pa.Table:
    """A row per point: whose it is, its cost, its gain and the hull's, and the AIQ of the whole."""
    rows = []
    for hull in found:
        of_hull: dict[str, Any] = {"name": hull.name}
        of_hull |= estimate_columns("aiq", hull.aiq) | estimate_columns("lead", hull.lead)
        for cost, gain, height in zip(hull.cost_P.tolist(), hull.gain_P.tolist(), hull.hull_P.tolist(), strict=True):
            rows.append({**of_hull, "cost": cost, "gain": gain, "hull": height})
    return pa.Table.from_pylist(rows)


def as_text(found: Sequence[Hull]) -> str:
    """A small table for people, best last among what is no router, and how to read it."""
    rows = [["", "points", "AIQ [95%]", f"lead over {ENDS}"]]
    rows += [[hull.name, f"{len(hull.cost_P) - 2}", str(hull.aiq), "-" if hull.name == ENDS else str(hull.lead)] for hull in found]
    lines = aligned(rows, [False, True, True, True])
    return "\n".join(
        [
            *lines,
            "AIQ: mean over all costs of the hull's gain over the cheapest pattern, nats; the oracle's is mostly selection bias.",
        ]
    )
