"""What a report says of routers: their loss and compute, and how far they stay behind the oracle, with intervals.

Knows routes as arrays of choices. Where the run kept no losses, or every budget's pass has its own, there is no loss to show.

Axes: N positions, L layers, R routers, K budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from duo_oracle.oracle.branches import pattern_costs
from duo_oracle.oracle.patterns import to_strings
from duo_oracle.results.report.positions import RunPositions
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.results.store.route_files import Routes


def router_rows(positions: RunPositions, routes: Sequence[Routes], routed_RN: list[np.ndarray] | None) -> list[dict[str, Any]]:
    """One row per router. `regret` and `same` are lists by budget: loss minus the oracle's, and how often its very pattern."""
    return [_row(positions, one, None if routed_RN is None else routed_RN[r]) for r, one in enumerate(routes)]


def _row(positions: RunPositions, routes: Routes, routed_N: np.ndarray | None) -> dict[str, Any]:
    table = positions.run.table
    chosen_N = np.array(to_strings(routes.branches_NL, table.letters))
    _, counts = np.unique(chosen_N, return_counts=True)
    cost_N = pattern_costs(routes.branches_NL, table.branches).astype(np.float64)
    same_KN = [(chosen_N == np.array(patterns)).astype(np.float64) for patterns in positions.pattern_KN]
    big, *same = _estimates([cost_N, *same_KN], positions.document_N)
    row: dict[str, Any] = {
        "name": routes.name,
        "causal": routes.causal,
        "big": big,
        "same": same,
        "distinct": len(counts),
        "commonest": float(counts.max() / counts.sum()),
        "loss": None,
        "unknown": None,
    }
    if routed_N is not None:
        known_N = np.isfinite(routed_N)
        row["unknown"] = float(1 - known_N.mean())
        if known_N.any():
            big_loss_N = positions.values_KN["loss_full"][0]
            regrets = [routed_N - loss_N for loss_N in positions.values_KN["loss"]]
            loss, gain, *regret = _estimates([routed_N, big_loss_N - routed_N, *regrets], positions.document_N)
            row |= {"loss": loss, "gain": gain, "regret": regret}
    return row


def _estimates(values_MN: Sequence[np.ndarray], document_N: np.ndarray) -> list[list[float]]:
    estimates = bootstrap(np.stack(values_MN, axis=1), document_N)
    return [[e.mean, e.low, e.high] for e in estimates]
