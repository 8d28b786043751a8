"""Rows of the losses table become positions x patterns by one rule, holes and passes included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import Budget, parse_budgets
from duo_oracle.oracle.patterns import Branch, branch_counts, tie_order
from duo_oracle.oracle.records import PatternLosses
from duo_oracle.results.report.alternatives import read_beside
from duo_oracle.results.report.positions import read_run
from duo_oracle.results.statistics.baselines import document_sums
from duo_oracle.results.statistics.landscape import landscape
from duo_oracle.results.statistics.selection_bias import best_of_n_of_run
from duo_oracle.results.store.kept_losses import KeptLosses, LossTable, read_losses
from duo_oracle.results.store.positions import read_positions
from tests.results.synthetic import Synthetic

ANY, TWO = parse_budgets("any,2", 4)


@dataclass(frozen=True)
class Holed(Synthetic):
    """A run whose sequence 1 kept no loss of the pattern `lacking` at position 3 (or at any, with `everywhere`)."""

    lacking: int = 5
    everywhere: bool = False

    def blocks(self, sequence: int) -> list[PatternLosses]:
        blocks = super().blocks(sequence)
        return blocks if sequence != 1 else [part for block in blocks for part in self._without(block)]

    def _without(self, block: PatternLosses) -> list[PatternLosses]:
        lacks_P = (block.branches_PL == self.branches_PL[self.lacking]).all(axis=1)
        hit_N = np.full(len(block.position_N), True) if self.everywhere else block.position_N == 3
        kept = [(hit_N, ~lacks_P), (~hit_N, np.full(len(lacks_P), True))]
        return [
            replace(
                block,
                position_N=block.position_N[rows],
                branches_PL=block.branches_PL[columns],
                loss_NP=block.loss_NP[rows][:, columns],
            )
            for rows, columns in kept
            if rows.any() and columns.any()
        ]


@dataclass(frozen=True)
class Passes(Synthetic):
    """A committed run in which the losses of pass b are b nats above those of the first."""

    context: str = "committed"
    budgets: str = "any,2"

    def blocks(self, sequence: int) -> list[PatternLosses]:
        return [replace(block, loss_NP=block.loss_NP + np.float32(block.budget or 0)) for block in super().blocks(sequence)]


def test_a_table_holds_every_loss_at_its_position_and_pattern_in_the_order_of_ties(tmp_path: Path) -> None:
    made = Synthetic()
    kept, order_P = KeptLosses(made.write(tmp_path / "run")), tie_order(made.branches_PL)
    assert [span.sequence for span in kept.spans] == list(range(made.documents * made.windows))
    for span in kept.spans:
        table = kept.read(span.sequence)
        assert np.array_equal(table.branches_PL, made.branches_PL[order_P])
        assert table.loss_NP.dtype == np.float32
        assert np.array_equal(table.loss_NP, made.loss_NP(span.sequence)[:, order_P])
        assert np.array_equal(kept.read_whole(span.sequence).loss_NP, table.loss_NP)


def test_a_table_of_patterns_of_few_bs_has_those_alone(tmp_path: Path) -> None:
    table = KeptLosses(Synthetic().write(tmp_path / "run")).read(0, most_big=1)
    assert branch_counts(table.branches_PL, Branch.BIG).tolist() == [0, 1, 1, 1, 1]
    assert not np.isnan(table.loss_NP).any()


@pytest.mark.parametrize("budget", [ANY, TWO])
def test_in_a_committed_context_a_table_is_of_the_pass_that_the_budget_names(budget: Budget, tmp_path: Path) -> None:
    made = Passes()
    kept = KeptLosses(made.write(tmp_path / "run"))
    assert kept.passes() == [ANY, TWO]
    above = np.float32(kept.passes().index(budget))
    table = kept.read_whole(3, budget)
    assert np.array_equal(table.loss_NP, made.loss_NP(3)[:, tie_order(made.branches_PL)] + above)
    with pytest.raises(InputError, match="every budget's pass has its own losses"):
        kept.read(3)


def test_where_one_pass_serves_all_budgets_each_of_them_reads_it(tmp_path: Path) -> None:
    kept = KeptLosses(Synthetic(budgets="any,2").write(tmp_path / "run"))
    assert kept.passes() == [None]
    assert np.array_equal(kept.read(0, TWO).loss_NP, kept.read(0).loss_NP)


def test_a_hole_is_nan_and_nothing_else_is_and_what_needs_every_loss_refuses_it(tmp_path: Path) -> None:
    made = Holed()
    run, order_P = made.write(tmp_path / "run"), tie_order(made.branches_PL)
    kept = KeptLosses(run)
    wanted_NP = made.loss_NP(1)
    wanted_NP[3, made.lacking] = np.nan
    table = kept.read(1)
    assert np.array_equal(table.loss_NP, wanted_NP[:, order_P], equal_nan=True)
    assert np.isnan(table.of(np.tile(made.branches_PL[made.lacking], (6, 1)))).tolist() == [False] * 3 + [True] + [False] * 2
    with pytest.raises(InputError, match="sequence 1 lacks losses of some pattern at 1 positions"):
        kept.read_whole(1)
    with pytest.raises(InputError, match="sequence 1 lacks losses"):
        best_of_n_of_run(run)
    with pytest.raises(InputError, match="lacks 1 of them"):
        landscape(run)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_pattern_with_a_hole_is_no_fixed_pattern_and_all_others_are(everywhere: bool, tmp_path: Path) -> None:
    made = Holed(everywhere=everywhere)
    names = {row.tobytes() for row in document_sums(made.write(tmp_path / "run")).branches_PL}
    assert names == {row.tobytes() for place, row in enumerate(made.branches_PL) if place != made.lacking}


def test_a_pattern_that_one_sequence_never_kept_is_a_column_of_the_run_with_holes_there(tmp_path: Path) -> None:
    made = Holed(everywhere=True)
    run, order_P = made.write(tmp_path / "run"), tie_order(made.branches_PL)
    assert len(KeptLosses(run).read(1).branches_PL) == len(made.branches_PL) - 1
    losses = read_losses(run)
    wanted_NP = np.concatenate([made.loss_NP(sequence) for sequence in range(made.documents * made.windows)])
    wanted_NP[6:12, made.lacking] = np.nan
    assert np.array_equal(losses.branches_PL, made.branches_PL[order_P])
    assert np.array_equal(losses.loss_NP, wanted_NP[:, order_P], equal_nan=True)


def test_a_report_shows_no_alternative_where_there_is_a_hole(tmp_path: Path) -> None:
    made = Holed(everywhere=True, budgets="2")
    positions = read_run(made.write(tmp_path / "run"))
    shown_NA = read_beside(positions).alternatives[0].pattern_NA[6:12]
    lacking = "".join(".sB"[branch] for branch in made.branches_PL[made.lacking])
    assert lacking.count("B") == 2
    assert lacking not in shown_NA


def test_kept_losses_are_those_of_the_table(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "run")
    positions, losses = read_positions(run), read_losses(run)
    assert not np.isnan(losses.loss_NP).any()
    for k in (0, 2, 4):
        column = positions.column(k)
        within_NP = losses.within(parse_budgets(str(k), 4)[0]).loss_NP
        assert np.array_equal(within_NP.min(axis=1), positions.loss_NK[:, column])
        assert np.array_equal(losses.of(positions.branches_NKL[:, column]), positions.loss_NK[:, column])
    skipped_NL = np.zeros_like(positions.branches_NKL[:, 0])
    assert np.isnan(losses.of(skipped_NL)).all()


def test_a_table_laid_over_other_patterns_has_nan_where_it_has_none() -> None:
    table = LossTable(np.array([[1, 2], [2, 1]], dtype=np.uint8), np.array([[0.5, 1.5]], dtype=np.float32))
    found = table.over(np.array([[2, 1], [2, 2]], dtype=np.uint8))
    assert np.array_equal(found.loss_NP, [[1.5, np.nan]], equal_nan=True)
    assert table.over(table.branches_PL) is table
    nothing = LossTable(table.branches_PL[:0], table.loss_NP[:, :0])
    assert np.isnan(nothing.over(table.branches_PL).loss_NP).all()
    assert np.isnan(nothing.of(table.branches_PL[:1])).all()
