"""What a report takes from a run's kept losses: the next best patterns of every token, and what routers' choices cost.

Holds one sequence's losses at a time. Knows nothing of pages.

Axes: N positions (by sequence, then position), P patterns, A alternatives, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results.report.positions import RunPositions
from duo_oracle.results.store.kept_losses import KeptLosses, LossTable

ALTERNATIVES = 4
"""The next best patterns kept beside the oracle path: the five best in all."""


@dataclass(frozen=True)
class Alternatives:
    """One budget's next best patterns: for each position their strings and how much more they lose than the path, in nats.

    An empty string and NaN where the budget has fewer patterns.
    """

    pattern_NA: np.ndarray
    above_NA: np.ndarray


@dataclass(frozen=True)
class Beside:
    """What stands beside the paths. `routed_RN`: each router's losses in nats, NaN where its pattern's was not kept; None in a
    committed context, where every budget's pass has its own."""

    alternatives: list[Alternatives]
    routed_RN: list[np.ndarray] | None


def read_beside(positions: RunPositions, routes: Sequence[np.ndarray] = ()) -> Beside:
    """`routes` are routers' choices branches_NL. Raises InputError where the run kept no losses."""
    run = positions.run
    kept, budgets = KeptLosses(run), [run.budget(text) for text in run.budgets]
    shape = (positions.n_positions, ALTERNATIVES)
    found = [Alternatives(np.full(shape, "", dtype=f"U{run.n_letters}"), np.full(shape, np.nan)) for _ in budgets]
    one_pass = kept.passes() == [None]
    routed = [np.full(positions.n_positions, np.nan, dtype=np.float32) for _ in routes] if one_pass else None
    for span in kept.spans:
        for of_pass in kept.passes():
            table = kept.read(span.sequence, of_pass)
            for number, budget in enumerate(budgets):
                if of_pass in (None, budget):
                    path_N, best_N = positions.pattern_KN[number][span.rows], positions.values_KN["loss"][number][span.rows]
                    patterns, above = _next_best(table.within(budget), path_N, best_N, run.table.letters)
                    found[number].pattern_NA[span.rows], found[number].above_NA[span.rows] = patterns, above
            for routed_N, branches_NL in zip(routed or (), routes, strict=False):
                routed_N[span.rows] = table.of(branches_NL[span.rows])
    return Beside(found, routed)


def _next_best(table: LossTable, path_N: Sequence[str], best_N: np.ndarray, letters: str) -> tuple[np.ndarray, np.ndarray]:
    """The best patterns beside the path, and how much more than `best_N` they lose; padded with "" and NaN."""
    shape = (len(best_N), ALTERNATIVES)
    padded_NA, padded_above_NA = np.full(shape, "", dtype=f"U{table.branches_PL.shape[1]}"), np.full(shape, np.nan)
    n = min(ALTERNATIVES, len(table.branches_PL))
    if not n:
        return padded_NA, padded_above_NA
    names_P = np.array(to_strings(table.branches_PL, letters))
    place_of = {name: place for place, name in enumerate(names_P.tolist())}
    shown = [(row, place_of[name]) for row, name in enumerate(path_N) if name in place_of]
    loss_NP = table.loss_NP.copy()
    loss_NP[tuple(np.array(shown, dtype=np.int64).reshape(-1, 2).T)] = np.nan  # the path is shown already
    # NaN sorts last; the stable sort leaves equal losses in the order of ties.
    kept_NA = np.sort(np.argpartition(loss_NP, n - 1, axis=1)[:, :n], axis=1)
    least_NA = np.take_along_axis(loss_NP, kept_NA, axis=1)
    order_NA = np.argsort(least_NA, axis=1, kind="stable")
    above_NA = np.take_along_axis(least_NA, order_NA, axis=1).astype(np.float64) - best_N[:, None]
    names_NA = np.where(np.isnan(above_NA), "", names_P[np.take_along_axis(kept_NA, order_NA, axis=1)])
    padded_NA[:, :n] = names_NA
    # Losses within four units in the last place are equal, so one may lie a trace below the path's.
    padded_above_NA[:, :n] = np.maximum(above_NA, 0.0)
    return padded_NA, padded_above_NA
