"""Mean gain, excess and control of each of a run's budgets, in nats per token: what its manifest says of it when it is complete.

Read part by part, so memory stays flat. No intervals: `summary` and `curve` have them.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from duo_oracle.results.store.reader import StoredRun

_COLUMNS = ["budget", "loss", "loss_full", "loss_cheapest", "null_gain", "null_difficulty"]


def run_means(run: StoredRun) -> dict[str, dict[str, float | None]]:
    """{budget: {"gain": ..., "excess": ..., "control": ...}}, means over all tokens in nats.

    `control` is the excess of the cheapest pattern, where nothing is chosen. The last two are None where no labels were drawn.
    """
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((3, 2)))  # each a sum and over how many tokens
    for unit in sorted(run.manifest.units):
        rows = run.dataset("paths", unit).to_table(columns=_COLUMNS)
        budget_R = np.array(rows["budget"].to_pylist(), dtype=object)
        loss_R, full_R, cheapest_R, null_gain_R, null_difficulty_R = (
            rows[name].to_numpy().astype(np.float64) for name in _COLUMNS[1:]
        )
        gain_R = full_R - loss_R
        control_R = full_R - cheapest_R - (null_gain_R - null_difficulty_R)
        for budget in run.budgets:
            mine_R = budget_R == budget
            for row, values_R in enumerate((gain_R, gain_R - null_gain_R, control_R)):
                known_R = mine_R & np.isfinite(values_R)
                sums[budget][row] += [values_R[known_R].sum(), known_R.sum()]
    names = ("gain", "excess", "control")
    return {
        budget: {name: float(total / count) if count else None for name, (total, count) in zip(names, sums[budget], strict=True)}
        for budget in run.budgets
    }
