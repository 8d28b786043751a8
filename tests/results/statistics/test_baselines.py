"""Fixed patterns are chosen on other documents; every figure against brute force over the dense table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.budgets import Budget, BudgetKind, parse_budgets
from duo_oracle.oracle.patterns import Branch, branch_counts, to_strings
from duo_oracle.results import load
from duo_oracle.results.statistics.baselines import DocumentSums, document_sums, fixed_patterns, fixed_patterns_of_run
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.writer import RunWriter
from tests.results.synthetic import Synthetic

WORK = Synthetic(documents=5, windows=2, length=9)


def dense(work: Synthetic) -> tuple[np.ndarray, np.ndarray]:
    """Every token's losses, and its document."""
    n_sequences = work.documents * work.windows
    loss_NP = np.concatenate([work.loss_NP(sequence) for sequence in range(n_sequences)]).astype(np.float64)
    return loss_NP, np.repeat(np.arange(work.documents), work.windows * (work.length - 1))


@pytest.mark.parametrize("budget", ["any", "0", "1", "2", "4", "atmost:2"])
def test_against_brute_force(tmp_path: Path, budget: str) -> None:
    loss_NP, document_N = dense(WORK)
    allowed_P = parse_budgets(budget, 4)[0].allows(4)[branch_counts(WORK.branches_PL, Branch.BIG)]
    kept_NP = loss_NP[:, allowed_P]
    crossed_N = np.empty(len(kept_NP))
    for document in range(WORK.documents):
        mine = document_N == document
        crossed_N[mine] = kept_NP[mine, kept_NP[~mine].mean(axis=0).argmin()]
    run = WORK.write(tmp_path / "x")
    answer = fixed_patterns(document_sums(run), parse_budgets(budget, 4)[0])
    assert answer.best is not None
    assert answer.best.mean == pytest.approx(crossed_N.mean())
    assert answer.best_in_sample.mean == pytest.approx(kept_NP.mean(axis=0).min())
    assert answer.best_pattern == to_strings(WORK.branches_PL[allowed_P])[kept_NP.mean(axis=0).argmin()]
    assert answer.mean.mean == pytest.approx(kept_NP.mean())
    assert answer.n_patterns == allowed_P.sum()


def test_what_is_chosen_on_the_same_tokens_is_never_worse(tmp_path: Path) -> None:
    for answer in fixed_patterns_of_run(WORK.write(tmp_path / "x")).values():
        assert answer.best is not None
        assert answer.best_in_sample.mean <= answer.best.mean + 1e-12
        assert answer.best_in_sample.mean <= answer.mean.mean + 1e-12


def test_a_pattern_that_is_good_only_at_home_is_not_chosen_there() -> None:
    # Pattern sB is by far the best on document 0 alone, Bs a little better everywhere else.
    sums = DocumentSums(
        documents=("a", "b", "c"),
        n_tokens_D=np.array([10, 10, 10]),
        branches_PL=np.array([[1, 2], [2, 1]], dtype=np.uint8),
        sum_DP=np.array([[1.0, 30.0], [20.0, 19.0], [20.0, 19.0]]),
    )
    answer = fixed_patterns(sums, Budget(BudgetKind.EXACT, 1))
    assert answer.best is not None
    assert answer.best_pattern == "sB"
    assert answer.best.mean == pytest.approx((30 + 20 + 20) / 30)


def test_ties_go_to_fewer_big_layers_then_to_the_first_string(tmp_path: Path) -> None:
    sums = document_sums(WORK.write(tmp_path / "x"))
    level = DocumentSums(sums.documents, sums.n_tokens_D, sums.branches_PL, np.ones_like(sums.sum_DP))
    assert fixed_patterns(level, Budget(BudgetKind.ANY)).best_pattern == "ssss"
    assert fixed_patterns(level, Budget(BudgetKind.EXACT, 2)).best_pattern == "ssBB"


def test_each_budgets_pass_of_a_committed_run_is_its_own(tmp_path: Path) -> None:
    work = Synthetic(context="committed", budgets="any,2", documents=2)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        for unit in range(2):
            with UnitWriter(tmp_path / "x", run.run_id, unit, work.parsed_budgets, "losses") as writer:
                for sequence in (2 * unit, 2 * unit + 1):
                    for block in work.blocks(sequence):
                        added = type(block)(block.position_N, block.branches_PL, block.loss_NP + 10 * block.budget, block.budget)
                        writer.add_losses(sequence, added)
                    writer.add_sequence(sequence, f"doc{unit}", work.token_ids(sequence), work.paths(sequence))
            run.add_unit(writer.record)
    answers = fixed_patterns_of_run(load(tmp_path / "x"))
    loss_NP, _ = dense(work)
    two_P = branch_counts(work.branches_PL, Branch.BIG) == 2
    assert answers["any"].mean.mean == pytest.approx(loss_NP.mean())
    assert answers["2"].mean.mean == pytest.approx(loss_NP[:, two_P].mean() + 10, rel=1e-6)


def test_one_document_leaves_none_to_choose_on(tmp_path: Path) -> None:
    answer = fixed_patterns_of_run(Synthetic(documents=1).write(tmp_path / "x"))["2"]
    assert answer.best is None
    assert answer.best_pattern.count("B") == 2


def test_patterns_that_were_not_scored_everywhere_are_left_out(tmp_path: Path) -> None:
    work = Synthetic(documents=2)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        for unit in range(2):
            with UnitWriter(tmp_path / "x", run.run_id, unit, work.parsed_budgets, "losses") as writer:
                for sequence in (2 * unit, 2 * unit + 1):
                    for number, block in enumerate(work.blocks(sequence)):
                        if not (unit == 1 and number % 2):  # the second half of the patterns is missing in one document
                            writer.add_losses(sequence, block)
                    writer.add_sequence(sequence, f"doc{unit}", work.token_ids(sequence), work.paths(sequence))
            run.add_unit(writer.record)
    sums = document_sums(load(tmp_path / "x"))
    assert set(to_strings(sums.branches_PL)) == set(to_strings(work.branches_PL[:8]))
    with pytest.raises(ValueError, match="no pattern that was scored has a budget of 4"):
        fixed_patterns(sums, Budget(BudgetKind.EXACT, 4))


def test_without_kept_losses_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`keep='losses'`"):
        document_sums(Synthetic(keep=None).write(tmp_path / "x"))
