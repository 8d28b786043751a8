"""Every pattern's loss at a run's positions, where the run kept them: rows become positions x patterns here, by one rule.

The rule:
- A position has a row whether it kept a loss or not: the rows are those of the run's tokens, in their order.
- A pattern has a column where any position of the table kept its loss. Columns stand in the order in which ties are decided.
- A loss that was not kept is NaN, a hole; nothing fills it in. A question that needs every loss asks `read_whole`, which
  refuses holes; one that can say "not known" asks `read`.
- In the context `committed` every budget is a pass of its own, with losses of its own: a table is of one pass, and `budget` names
  it. In any other context one pass serves all budgets, and `budget` names none.

Memory holds one sequence's losses at a time.

Axes: N positions, P patterns, L layers, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import DUO, BranchTable, pattern_costs
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.patterns import RoutingPattern, tie_order, to_array
from duo_oracle.results.store.positions import datasets_of, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun


@dataclass(frozen=True)
class LossTable:
    """Losses in nats at some positions: NaN where one was not kept."""

    branches_PL: np.ndarray  # uint8, in the order in which ties are decided
    loss_NP: np.ndarray  # float32, as stored
    table: BranchTable = DUO

    def within(self, budget: Budget) -> LossTable:
        """The patterns that `budget` allows."""
        allowed_P = budget.allows(self.branches_PL.shape[1] * max(1, self.table.dearest))[
            pattern_costs(self.branches_PL, self.table.branches)
        ]
        return LossTable(self.branches_PL[allowed_P], self.loss_NP[:, allowed_P], self.table)

    def of(self, branches_NL: np.ndarray) -> np.ndarray:
        """The loss of one given pattern per position: float32 (N,), NaN where it was not kept."""
        place_N = self._places(branches_NL)
        loss_N, known = np.full(len(place_N), np.nan, dtype=np.float32), np.flatnonzero(place_N >= 0)
        loss_N[known] = self.loss_NP[known, place_N[known]]
        return loss_N

    def over(self, branches_PL: np.ndarray) -> LossTable:
        """The same positions with these patterns as columns: NaN all down where a pattern was not kept."""
        if np.array_equal(branches_PL, self.branches_PL):
            return self
        place_P = self._places(branches_PL)
        loss_NP, known = np.full((len(self.loss_NP), len(place_P)), np.nan, dtype=np.float32), np.flatnonzero(place_P >= 0)
        loss_NP[:, known] = self.loss_NP[:, place_P[known]]
        return LossTable(branches_PL, loss_NP, self.table)

    def _places(self, branches_PL: np.ndarray) -> np.ndarray:
        """The column of each pattern, -1 where there is none."""
        place_of = {row.tobytes(): place for place, row in enumerate(np.ascontiguousarray(self.branches_PL))}
        return np.array(
            [place_of.get(row.tobytes(), -1) for row in np.ascontiguousarray(branches_PL, dtype=np.uint8)], dtype=np.int64
        )


class KeptLosses:
    """The losses that a run kept, by sequence. Raises InputError where it kept none."""

    def __init__(self, run: StoredRun) -> None:
        self._dataset_of = datasets_of(run, "losses")
        self._run, self.spans = run, spans_of(read_tokens(run))
        self._span_of = {span.sequence: span for span in self.spans}

    def passes(self) -> list[Budget | None]:
        """The budgets whose passes have losses of their own; [None] where one pass serves all."""
        return [self._run.budget(text) for text in self._run.budgets] if self._run.context == "committed" else [None]

    def read(self, sequence: int, budget: Budget | None = None, most_big: int | None = None) -> LossTable:
        """The table of one sequence; `budget` names the pass of a committed run. `most_big`: patterns of at most so many B's."""
        wanted = pc.field("sequence") == sequence
        if self._run.context == "committed":
            if budget is None:
                raise InputError(
                    f"in context committed every budget's pass has its own losses; {self._run.place} was asked for none"
                )
            wanted &= pc.field("budget") == str(budget)
        if most_big is not None:
            wanted &= pc.field("cost") <= most_big
        rows = self._dataset_of[sequence].to_table(columns=["position", "pattern", "loss"], filter=wanted)
        codes = rows["pattern"].unify_dictionaries().combine_chunks()
        code_R = codes.indices.to_numpy()
        used = np.flatnonzero(np.bincount(code_R, minlength=len(codes.dictionary)))
        branches_PL, place_P = _columns(
            tuple(codes.dictionary.take(pa.array(used)).to_pylist()), self._run.n_letters, self._run.table
        )
        place_of_code = np.zeros(len(codes.dictionary), dtype=np.int64)
        place_of_code[used] = place_P
        span = self._span_of[sequence]
        at_R = rows["position"].to_numpy() - span.first_position
        if len(at_R) and not 0 <= at_R.min() <= at_R.max() < span.n_positions:
            first, last = span.first_position, span.first_position + span.n_positions - 1
            raise InputError(
                f"{self._run.place}: losses of sequence {sequence} are of positions {at_R.min() + first}-{at_R.max() + first}, and "
                f"its tokens of {first}-{last}"
            )
        loss_NP = np.full((span.n_positions, len(branches_PL)), np.nan, dtype=np.float32)
        loss_NP[at_R, place_of_code[code_R]] = rows["loss"].to_numpy()
        return LossTable(branches_PL, loss_NP, self._run.table)

    def read_whole(self, sequence: int, budget: Budget | None = None, most_big: int | None = None) -> LossTable:
        """As `read`. Raises InputError for a hole, and for a sequence without any loss in the pass."""
        table = self.read(sequence, budget, most_big)
        nothing = most_big is None and not len(table.branches_PL)
        n_lacking = len(table.loss_NP) if nothing else int(np.isnan(table.loss_NP).any(axis=1).sum())
        if n_lacking:
            raise InputError(
                f"{self._run.place}: sequence {sequence} lacks losses of some pattern at {n_lacking:,} positions; a search with "
                "`keep='losses'` stores all"
            )
        return table

    def tables(self, budget: Budget | None = None) -> Iterator[LossTable]:
        """`read` of every sequence, in order."""
        return (self.read(span.sequence, budget) for span in self.spans)


def read_losses(run: StoredRun) -> LossTable:
    """One table of all positions of a run in a context whose positions are independent. Raises InputError where none were kept."""
    tables = list(KeptLosses(run).tables())
    kept = {row.tobytes() for table in tables for row in table.branches_PL}
    branches_PL = np.frombuffer(b"".join(kept), dtype=np.uint8).reshape(-1, run.n_letters)
    branches_PL = branches_PL[tie_order(branches_PL, run.table.branches)]
    return LossTable(branches_PL, np.concatenate([table.over(branches_PL).loss_NP for table in tables]), run.table)


@lru_cache(maxsize=4)
def _columns(names: tuple[str, ...], n_letters: int, table: BranchTable) -> tuple[np.ndarray, np.ndarray]:
    """branches_PL of these patterns in the order of ties, and the place of each there. The same ones come sequence by sequence."""
    branches_PL = to_array([RoutingPattern.parse(name, table=table) for name in names]).reshape(-1, n_letters)
    order_P = tie_order(branches_PL, table.branches)
    place_P = np.empty(len(order_P), dtype=np.int64)
    place_P[order_P] = np.arange(len(order_P))
    return branches_PL[order_P], place_P
