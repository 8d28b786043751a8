"""Routers beside the oracle, fixed patterns and random routing: what is known of every token, and the lines that are made of it.

Pure statistics over losses and patterns; knows no model and no router. A router has an average budget b (its mean B's per token),
fixed patterns and the oracle of a run a whole number k per token. So at b stands
- between the answers of the two nearest whole budgets, weighted so that they average b: the best fixed pattern (chosen on other
  documents), random routing (every pattern with k B's as likely), and the *exact* oracle (where a neighbour was not searched:
  the nearest);
- the *average* oracle: the least mean loss of any choice of k per token that averages b, by the Lagrangian of the per-budget
  answers (`results/statistics/average.py`). It needs all budgets 0..L in a context whose positions are independent.

Axes: N tokens, K budgets 0..L, L routed layer, P patterns, D documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from duo_oracle.oracle.branches import DUO
from duo_oracle.oracle.flops import Flops
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.average import AverageOracle, average_oracle
from duo_oracle.results.statistics.intervals import Estimate, bootstrap, bootstrap_sums
from duo_oracle.results.statistics.usage import agreement, collapse
from duo_oracle.results.store.words import uniform_name

UNIFORM = tuple(uniform_name(branch) for branch in DUO.branches)
"""Kinds of lines that are one branch at every layer: the cheapest pattern and all-big."""


@dataclass(frozen=True)
class Oracle:
    """The oracle's answer under one budget. `excess_N` is its gain over all-big beyond selection bias, NaN without drawn labels."""

    loss_N: np.ndarray
    branches_NL: np.ndarray
    excess_N: np.ndarray


@dataclass(frozen=True)
class Plane:
    """What all routers are compared with, on the same tokens, in nats. Budgets that nobody scored are NaN."""

    sequence_N: np.ndarray
    position_N: np.ndarray
    document_N: np.ndarray
    context: str
    independent: bool  # whether one token's best pattern depends on no other's
    branches: tuple[Branch, ...]
    loss_cheapest_N: np.ndarray
    loss_full_N: np.ndarray
    oracles: dict[int, Oracle]  # by whole budget
    at_most: bool  # whether those budgets are "at most k" instead of "exactly k"
    any_oracle: Oracle | None  # without a budget
    fixed_KN: np.ndarray  # the best fixed pattern with k B's, chosen on other documents
    fixed_patterns: tuple[str | None, ...]  # the one that is best in-sample, by k
    random_KN: np.ndarray  # a random pattern with k B's, expected
    gap_excess_KN: np.ndarray  # fixed - oracle, minus the same on labels drawn from all-big
    random_rank_KN: np.ndarray  # percentile of a random pattern with k B's in the token's table
    flops_by_branch: Flops | None  # of one token; None where the model's operations are not known
    routed_layers: tuple[int, ...] | None  # their numbers in the model; None for all
    cheapest: Branch  # whose loss at every layer is loss_cheapest_N

    @property
    def n_letters(self) -> int:
        """How many layers are routed."""
        return len(self.fixed_KN) - 1

    @property
    def layers(self) -> tuple[int, ...]:
        """The routed layers' numbers in the model."""
        return tuple(range(self.n_letters)) if self.routed_layers is None else self.routed_layers

    @property
    def cheapest_name(self) -> str:
        return uniform_name(self.cheapest)

    @cached_property
    def average(self) -> AverageOracle | None:
        """The oracle of an average budget; None where the run has not all that it needs."""
        if self.missing_for_average is not None:
            return None
        return average_oracle(np.stack([self.oracles[k].loss_N for k in range(self.n_letters + 1)]))

    @property
    def missing_for_average(self) -> str | None:
        """What the run lacks to answer for an average budget, as one line; None where it lacks nothing."""
        lacking = sorted(set(range(self.n_letters + 1)) - (set() if self.at_most else set(self.oracles)))
        if lacking:
            said = ", ".join(map(str, lacking))
            return f"no average-budget oracle: the run has no exact budget {said} (search with `budget='0-{self.n_letters}'`)"
        if not self.independent:
            return (
                f"no average-budget oracle: in context {self.context} tokens depend on each other's choices "
                "(search with `context='full'`)"
            )
        return None

    def between(self, values_KN: np.ndarray, budget: float) -> np.ndarray:
        """Per token, between the two whole budgets nearest to `budget`, weighted to average it; NaN where one is unknown."""
        low = min(math.floor(budget + 1e-9), self.n_letters)
        weight = max(budget - low, 0.0)
        if weight < 1e-9:
            return values_KN[low]
        return (1 - weight) * values_KN[low] + weight * values_KN[low + 1]

    def exact_oracle(self, budget: float) -> tuple[np.ndarray, str | None]:
        """The oracle of whole budgets at `budget`, per token, and which: between the two nearest, or where one of them was not
        searched the nearest within half a B; NaN and None where there is none."""
        found_N = self.between(self.oracle_KN, budget)
        if not np.isnan(found_N).any():
            low, high = math.floor(budget + 1e-9), math.ceil(budget - 1e-9)
            return found_N, f"{low}" if low == high else f"between {low} and {high}"
        near = [k for k in self.oracles if abs(k - budget) <= 0.5]
        if not near:
            return np.full_like(found_N, np.nan), None
        nearest = min(near, key=lambda k: (abs(k - budget), k))
        return self.oracles[nearest].loss_N, f"nearest, {nearest}"

    @cached_property
    def oracle_KN(self) -> np.ndarray:
        return self._by_budget("loss_N")

    @cached_property
    def excess_KN(self) -> np.ndarray:
        return self._by_budget("excess_N")

    def flops(self, branches_NL: np.ndarray) -> float | None:
        """Mean operations per token of these patterns."""
        return None if self.flops_by_branch is None else self.flops_by_branch.per_token(branches_NL)

    def flops_of_budget(self, budget: float) -> float | None:
        """The same for tokens with so many B's on average, all else small, or skip in a model without small FFNs."""
        by_branch = self.flops_by_branch
        return None if by_branch is None else by_branch.of_budget(budget, self.n_letters, self.cheapest)

    def _by_budget(self, name: str) -> np.ndarray:
        found_KN = np.full((self.n_letters + 1, len(self.document_N)), np.nan)
        for k, oracle in self.oracles.items():
            found_KN[k] = getattr(oracle, name)
        return found_KN


@dataclass(frozen=True)
class Routed:
    """A router at every token: its pattern, and what that costs in the plane's context."""

    name: str
    branches_NL: np.ndarray
    loss_N: np.ndarray
    matched_N: np.ndarray  # a random pattern with as many B's as the router gave the token, expected
    rank_N: np.ndarray  # percentile of its pattern in the token's table of all patterns; NaN where that is not known
    real_N: np.ndarray  # its loss when it routes the whole sequence itself; NaN where no model was at hand
    causal: bool | None = None
    target: float | None = None

    @property
    def n_big_N(self) -> np.ndarray:
        return (self.branches_NL == Branch.BIG).sum(axis=1)


@dataclass(frozen=True)
class Line:
    """One row of the comparison. Losses in nats per token, shares between 0 and 1; None is not known or without meaning."""

    name: str
    kind: str  # one of UNIFORM, fixed, random, oracle, average oracle, router
    budget: float  # mean B's per token
    loss: Estimate
    values: dict[str, Estimate | float | int | bool | str | None] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)


def router_line(plane: Plane, routed: Routed) -> Line:
    """A router beside everything at its own average budget."""
    n_big_N = routed.n_big_N
    budget = float(n_big_N.mean())
    random_N = plane.between(plane.random_KN, budget)
    values = _beside(plane, routed.loss_N, budget)
    values["minus_random"] = _mean(plane, routed.loss_N - random_N)
    values["minus_matched"] = _mean(plane, routed.loss_N - routed.matched_N)
    values["rank"] = _mean(plane, routed.rank_N)
    values["random_rank"] = _mean(plane, plane.between(plane.random_rank_KN, budget))
    values["real_loss"] = _mean(plane, routed.real_N)
    compared, values["compared_with"] = nearest_oracle(plane, budget)
    if compared is not None:
        values |= agreement(routed.branches_NL, compared, plane.branches)
    values["layers"] = list(plane.layers)
    values |= collapse(routed.branches_NL)
    values |= {
        "budget_spread": float(n_big_N.std()),
        "target": routed.target,
        "budget_error": None if routed.target is None else budget - routed.target,
        "flops": plane.flops(routed.branches_NL),
        "causal": routed.causal,
    }
    return Line(routed.name, "router", budget, _known(plane, routed.loss_N), values)


def reference_lines(plane: Plane, budgets: Sequence[float]) -> list[Line]:
    """The lines without a router: the cheapest pattern, all-big, and for every whole budget the best fixed pattern, random routing
    and the oracle; the average oracle at each of `budgets`."""
    lines = [
        _reference(plane, plane.cheapest_name, plane.cheapest_name, 0.0, plane.loss_cheapest_N),
        _reference(plane, "all-big", "all-big", float(plane.n_letters), plane.loss_full_N),
    ]
    for k in range(plane.n_letters + 1):
        if not np.isnan(plane.fixed_KN[k]).all():
            fixed = _reference(plane, f"best fixed {k}", "fixed", k, plane.fixed_KN[k])
            lines.append(Line(fixed.name, fixed.kind, k, fixed.loss, {**fixed.values, "pattern": plane.fixed_patterns[k]}))
        if not np.isnan(plane.random_KN[k]).all():
            lines.append(_reference(plane, f"random {k}", "random", k, plane.random_KN[k]))
        if k in plane.oracles:
            oracle = plane.oracles[k]
            name = f"oracle at most {k}" if plane.at_most else f"oracle {k}"
            budget = float((oracle.branches_NL == Branch.BIG).sum(axis=1).mean())
            lines.append(_reference(plane, name, "oracle", budget, oracle.loss_N, oracle.branches_NL))
    if plane.any_oracle is not None:
        oracle = plane.any_oracle
        budget = float((oracle.branches_NL == Branch.BIG).sum(axis=1).mean())
        lines.append(_reference(plane, "oracle any", "oracle", budget, oracle.loss_N, oracle.branches_NL))
    if plane.average is not None:
        for budget in sorted({round(budget, 6) for budget in budgets}):
            loss_N, _ = plane.average.at(budget)
            lines.append(_reference(plane, f"oracle average {budget:.2f}", "average oracle", budget, loss_N))
    return lines


def _reference(
    plane: Plane, name: str, kind: str, budget: float, loss_N: np.ndarray, branches_NL: np.ndarray | None = None
) -> Line:
    values = {} if kind in UNIFORM else _beside(plane, loss_N, budget, oracle=kind == "fixed")
    if branches_NL is not None:
        values |= collapse(branches_NL)
    values["flops"] = plane.flops_of_budget(budget) if branches_NL is None else plane.flops(branches_NL)
    return Line(name, kind, budget, _known(plane, loss_N), values)


def _beside(plane: Plane, loss_N: np.ndarray, budget: float, oracle: bool = True) -> dict[str, Any]:
    """Differences to the best fixed pattern and the oracles at the same budget, and the share of the gap that is closed."""
    fixed_N = plane.between(plane.fixed_KN, budget)
    values: dict[str, Any] = {"minus_fixed": _mean(plane, loss_N - fixed_N)}
    if not oracle:
        return values
    exact_N, values["exact_oracle"] = plane.exact_oracle(budget)
    average_N = plane.average.at(budget)[0] if plane.average is not None else np.full_like(loss_N, np.nan)
    any_N = plane.any_oracle.loss_N if plane.any_oracle is not None else np.full_like(loss_N, np.nan)
    for name, oracle_N in (("exact", exact_N), ("average", average_N), ("any", any_N)):
        values[f"regret_{name}"] = _mean(plane, loss_N - oracle_N)
        values[f"gap_closed_{name}"] = share_of(fixed_N - loss_N, fixed_N - oracle_N, plane.document_N)
    # Known for whole budgets is the selection bias; that of choosing k per token, by the label, is not: the average oracle
    excess_N, gap_excess_N = plane.between(plane.excess_KN, budget), plane.between(plane.gap_excess_KN, budget)
    values["excess"] = _mean(plane, excess_N)
    values["gap_closed_excess"] = share_of(fixed_N - loss_N, excess_N, plane.document_N)
    values["gap_excess"] = _mean(plane, gap_excess_N)
    return values


def share_of(part_N: np.ndarray, whole_N: np.ndarray, document_N: np.ndarray) -> Estimate | None:
    """sum(part) / sum(whole) with its interval; None where the whole is unknown or does not stand out from zero."""
    if np.isnan(part_N).any() or np.isnan(whole_N).any():
        return None
    (whole,) = bootstrap(whole_N[:, None], document_N)
    if not (whole.mean > 1e-9 and (math.isnan(whole.low) or whole.low > 0)):
        return None
    _, code_N = np.unique(document_N, return_inverse=True)
    part_D1, whole_D1 = (np.bincount(code_N, weights=values_N)[:, None] for values_N in (part_N, whole_N))
    (ratio,) = bootstrap_sums(part_D1, whole_D1)
    low, high = (ratio.low, ratio.high) if len(part_D1) > 1 else (math.nan, math.nan)
    return Estimate(ratio.mean, low, high, len(part_N), len(part_D1))


def nearest_oracle(plane: Plane, budget: float) -> tuple[np.ndarray | None, str | None]:
    """The oracle's patterns that a router's of this budget are compared with, and which they are: the average oracle's where it is
    known, else those of the nearest whole budget, else those without a budget."""
    if plane.average is not None:
        k_N = plane.average.at(budget)[1]
        stacked_KNL = np.stack([plane.oracles[k].branches_NL for k in range(plane.n_letters + 1)])
        return stacked_KNL[k_N, np.arange(len(k_N))], f"oracle average {budget:.2f}"
    if plane.oracles:
        k = min(plane.oracles, key=lambda k: (abs(k - budget), k))
        return plane.oracles[k].branches_NL, f"oracle {'at most ' if plane.at_most else ''}{k}"
    if plane.any_oracle is not None:
        return plane.any_oracle.branches_NL, "oracle any"
    return None, None


def _known(plane: Plane, values_N: np.ndarray) -> Estimate:
    (estimate,) = bootstrap(values_N[:, None], plane.document_N)
    return estimate


def _mean(plane: Plane, values_N: np.ndarray) -> Estimate | None:
    """The mean with its interval; None where any token's value is unknown."""
    return None if np.isnan(values_N).any() else _known(plane, values_N)
