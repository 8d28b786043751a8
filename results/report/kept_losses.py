"""What a report takes from a run's kept losses: the next best patterns of every token, and what routers' choices cost.

Holds one sequence's losses at a time. Knows nothing of pages.

Axes: N positions (by sequence, then position), P patterns, A alternatives, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from duo_oracle.oracle.budgets import Budget, parse_budgets
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, tie_order, to_array
from duo_oracle.results.report.positions import Passage, RunPositions

ALTERNATIVES = 4
"""The next best patterns kept beside the oracle path: the five best in all."""
_COLUMNS = ["budget", "position", "pattern", "loss"]


@dataclass(frozen=True)
class Alternatives:
    """One budget's next best patterns: for each position their strings and how much more they lose than the path, in nats.

    An empty string and NaN where the budget has fewer patterns.
    """

    pattern_NA: np.ndarray
    above_NA: np.ndarray


@dataclass(frozen=True)
class KeptLosses:
    """`routed_RN`: each router's losses in nats, NaN where its pattern's was not kept; None in a committed context, where every
    budget's pass has its own."""

    alternatives: list[Alternatives]
    routed_RN: list[np.ndarray] | None


def read_kept(positions: RunPositions, routes: Sequence[np.ndarray] = ()) -> KeptLosses:
    """`routes` are routers' choices branches_NL. Raises InputError where the run kept no losses."""
    run = positions.run
    budgets = [parse_budgets(text, run.n_layers)[0] for text in run.budgets]
    passes = budgets if run.context == "committed" else [None]
    shape = (positions.n_positions, ALTERNATIVES)
    found = [Alternatives(np.full(shape, "", dtype=f"U{run.n_layers}"), np.full(shape, np.nan)) for _ in budgets]
    routed = [np.full(positions.n_positions, np.nan, dtype=np.float32) for _ in routes] if passes == [None] else None
    for passage, rows_of_sequence in _sequences(positions):
        rows = slice(passage.start, passage.start + passage.length)
        for of_pass in passes:
            table = _SequenceLosses.of_rows(_of_pass(rows_of_sequence, of_pass), passage)
            for number, budget in enumerate(budgets):
                if of_pass is None or budget == of_pass:
                    patterns, above = table.next_best(
                        budget, positions.pattern_KN[number][rows], positions.values_KN["loss"][number][rows]
                    )
                    found[number].pattern_NA[rows], found[number].above_NA[rows] = patterns, above
            for router, branches_NL in enumerate(routes if routed is not None else ()):
                assert routed is not None
                routed[router][rows] = table.of_patterns(branches_NL[rows])
    return KeptLosses(found, routed)


def _sequences(positions: RunPositions) -> Iterator[tuple[Passage, pa.Table]]:
    """Every sequence's rows of the losses table, unit by unit."""
    passage_of = {passage.sequence: passage for passage in positions.passages}
    for unit in sorted(positions.run.manifest.units):
        losses = positions.run.dataset("losses", unit)
        for sequence in pc.unique(losses.to_table(columns=["sequence"])["sequence"]).to_pylist():
            yield passage_of[sequence], losses.to_table(columns=_COLUMNS, filter=ds.field("sequence") == sequence)


def _of_pass(table: pa.Table, budget: Budget | None) -> pa.Table:
    return table if budget is None else table.filter(ds.field("budget") == str(budget))


@dataclass(frozen=True)
class _SequenceLosses:
    """loss_NP of one sequence's positions, patterns in the order in which ties are decided; NaN where none was kept."""

    names_P: np.ndarray
    branches_PL: np.ndarray
    loss_NP: np.ndarray

    @classmethod
    def of_rows(cls, table: pa.Table, passage: Passage) -> _SequenceLosses:
        codes = table["pattern"].unify_dictionaries().combine_chunks()
        names = codes.dictionary.to_pylist()
        branches_PL = to_array(RoutingPattern.parse(name) for name in names)
        order_P = tie_order(branches_PL)
        place_P = np.empty(len(order_P), dtype=np.int64)
        place_P[order_P] = np.arange(len(order_P))
        loss_NP = np.full((passage.length, len(names)), np.nan, dtype=np.float32)
        loss_NP[table["position"].to_numpy() - passage.first_position, place_P[codes.indices.to_numpy()]] = table["loss"].to_numpy()
        return cls(np.array(names)[order_P], branches_PL[order_P], loss_NP)

    def next_best(self, budget: Budget, path_N: Sequence[str], best_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best patterns beside the path, and how much more than `best_N` they lose; padded with "" and NaN."""
        n_layers = self.branches_PL.shape[1]
        allowed_P = np.flatnonzero(budget.allows(n_layers)[branch_counts(self.branches_PL, Branch.BIG)])
        loss_NP, names_P = self.loss_NP[:, allowed_P].copy(), self.names_P[allowed_P]
        place_of = {name: place for place, name in enumerate(names_P.tolist())}
        loss_NP[np.arange(len(loss_NP)), [place_of[name] for name in path_N]] = np.nan  # it is shown already
        n = min(ALTERNATIVES, len(allowed_P))
        # NaN sorts last; the stable sort leaves equal losses in the order of ties.
        kept_NA = np.sort(np.argpartition(loss_NP, n - 1, axis=1)[:, :n], axis=1)
        least_NA = np.take_along_axis(loss_NP, kept_NA, axis=1)
        order_NA = np.argsort(least_NA, axis=1, kind="stable")
        above_NA = np.take_along_axis(least_NA, order_NA, axis=1).astype(np.float64) - best_N[:, None]
        names_NA = np.where(np.isnan(above_NA), "", names_P[np.take_along_axis(kept_NA, order_NA, axis=1)])
        shape = (len(loss_NP), ALTERNATIVES)
        padded_NA, padded_above_NA = np.full(shape, "", dtype=names_P.dtype), np.full(shape, np.nan)
        padded_NA[:, :n] = names_NA
        # Losses within four units in the last place are equal, so one may lie a trace below the path's.
        padded_above_NA[:, :n] = np.maximum(above_NA, 0.0)
        return padded_NA, padded_above_NA

    def of_patterns(self, branches_NL: np.ndarray) -> np.ndarray:
        """Each position's loss under its own pattern: float32 (N,), NaN where it was not kept."""
        place_of = {row.tobytes(): place for place, row in enumerate(np.ascontiguousarray(self.branches_PL))}
        places = [place_of.get(row.tobytes()) for row in np.ascontiguousarray(branches_NL)]
        return np.array([np.nan if p is None else self.loss_NP[n, p] for n, p in enumerate(places)], dtype=np.float32)
