"""How far a search strategy stays behind the best path, at what cost, and beside as many random patterns.

Pure statistics over what was found per token; knows no model and no strategy. Three questions per strategy and budget:

- regret: its loss minus the reference's (the exact oracle's; or, where no oracle is exact, the best that any strategy found);
- share of the gain: (mean pattern - it) / (mean pattern - reference), a ratio of sums over tokens;
- the same for random patterns, as many as it evaluated: their expected minimum, exactly (`results/statistics/selection_bias.py`).

Intervals come from resampling documents (`results/statistics/intervals.py`).

Axes: N tokens, P patterns, E evaluations, D documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from duo_oracle.results.formats import aligned
from duo_oracle.results.statistics.intervals import Estimate, bootstrap, bootstrap_sums, percent_text

SAME_LOSS = 1e-5
"""Losses so near, relative to 1 + loss, are the same path's: what float32 and another order of sums leave."""


@dataclass(frozen=True)
class Outcomes:
    """What one strategy found for every token under one budget, in nats, and what it is read against."""

    strategy: str
    budget: str
    n_patterns: int  # of the space
    seconds: float  # of CPU time
    document_N: np.ndarray
    loss_N: np.ndarray
    evaluations_N: np.ndarray
    reference_N: np.ndarray
    mean_N: np.ndarray  # of all patterns in the budget, or of a random sample of them
    random_N: np.ndarray  # expected least loss of as many random patterns, NaN where it is not known
    best_NE: np.ndarray  # the best so far in the budget after each evaluation, NaN before the first; none of an average budget


@dataclass(frozen=True)
class RegretLine:
    """One strategy under one budget. Losses in nats per token; shares between 0 and 1."""

    budget: str
    strategy: str
    n_patterns: int
    evaluations: float
    regret: Estimate
    share: Estimate
    exact: Estimate  # share of tokens where it found the reference's loss
    random_share: Estimate | None
    random_regret: Estimate | None  # regret of as many random patterns
    ahead: Estimate | None  # of as many random patterns, paired, nats
    tokens_per_second: float


def regret_line(found: Outcomes) -> RegretLine:
    """The means over tokens, with their intervals."""
    tolerance_N = SAME_LOSS * (1 + np.abs(found.reference_N))
    drawn = bool(np.isfinite(found.random_N).all())
    columns = [
        found.loss_N - found.reference_N,
        (found.loss_N <= found.reference_N + tolerance_N).astype(np.float64),
        *((found.random_N - found.reference_N, found.random_N - found.loss_N) if drawn else ()),
    ]
    regret, exact, *beside = bootstrap(np.stack(columns, axis=1), found.document_N)
    random_regret, ahead = beside if drawn else (None, None)
    return RegretLine(
        budget=found.budget,
        strategy=found.strategy,
        n_patterns=found.n_patterns,
        evaluations=float(found.evaluations_N.mean()),
        regret=regret,
        share=_share(found, found.loss_N),
        exact=exact,
        random_share=_share(found, found.random_N) if drawn else None,
        random_regret=random_regret,
        ahead=ahead,
        tokens_per_second=len(found.loss_N) / max(found.seconds, 1e-9),
    )


def regret_curve(found: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """Mean regret after 1, 2, ... evaluations, from the first at which every token has a pattern in the budget.

    A token whose search has ended keeps its best.
    """
    regret_E = (found.best_NE - found.reference_N[:, None]).mean(axis=0)
    known = np.flatnonzero(np.isfinite(regret_E))
    return known + 1, regret_E[known]


def as_table(lines: Sequence[RegretLine], run_id: str) -> pa.Table:
    """One row per strategy and budget of the run, every figure a column, intervals as _low and _high."""
    rows = []
    for line in lines:
        row: dict[str, Any] = {"run_id": run_id, "budget": line.budget, "strategy": line.strategy}
        row |= {"patterns": line.n_patterns, "evaluations": line.evaluations}
        for name in ("regret", "share", "exact", "random_share", "random_regret", "ahead"):
            estimate: Estimate | None = getattr(line, name)
            known = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), known, strict=True))
        rows.append(row | {"tokens_per_second": line.tokens_per_second, "tokens": line.regret.n_tokens})
    return pa.Table.from_pylist(rows)


def as_text(lines: Sequence[RegretLine]) -> str:
    """The lines as an aligned table for reading."""
    rows = [
        [
            "budget",
            "strategy",
            "evaluations",
            "of",
            "regret [95%]",
            "share of gain [95%]",
            "exact path",
            "random, as many",
            "ahead of it, nats [95%]",
            "tokens per CPU s",
        ]
    ]
    for line in lines:
        rows.append(
            [
                line.budget,
                line.strategy,
                f"{line.evaluations:.1f}",
                f"{line.n_patterns:,}",
                _interval(line.regret, 4),
                percent_text(line.share, 1),
                f"{line.exact.mean:.1%}",
                "-" if line.random_share is None else f"{line.random_share.mean:.1%}",
                "-" if line.ahead is None else _interval(line.ahead, 4),
                f"{line.tokens_per_second:,.1f}",
            ]
        )
    return "\n".join(aligned(rows, [True, False, True, True, True, True, True, True, True, True])) + "\n"


def _share(found: Outcomes, loss_N: np.ndarray) -> Estimate:
    """The ratio of sums over tokens, its interval from the documents' sums."""
    _, document_N = np.unique(found.document_N, return_inverse=True)
    gain_N, whole_N = found.mean_N - loss_N, found.mean_N - found.reference_N
    sums_DM, wholes_DM = (np.bincount(document_N, weights=values_N)[:, None] for values_N in (gain_N, whole_N))
    if not wholes_DM.sum() > 0:  # one pattern alone, so that nothing can be gained
        return Estimate(1.0, float("nan"), float("nan"), len(loss_N), len(sums_DM))
    (ratio,) = bootstrap_sums(sums_DM, wholes_DM)
    return replace(ratio, n_tokens=len(loss_N), n_documents=len(sums_DM))


def _interval(estimate: Estimate, digits: int) -> str:
    text = f"{estimate.mean:.{digits}f}"
    return text if np.isnan(estimate.low) else f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
