"""What patterns cost at a run's positions: every token's table of losses, kept by the run or scored for a sample of patterns.

Axes: T positions of a sequence, P patterns of the tables, L layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from torch import Tensor

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.scorer import SameScorer, Scorer, scored
from duo_oracle.oracle.model import OracleModel, token_ids_on
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.unit import scorer_of

_HELD_BYTES = 1 << 30  # of tables held at once


class PatternTables:
    """loss_TP of every sequence, for the same patterns. `complete`: they are all patterns of the run's branches."""

    def __init__(
        self,
        branches_PL: np.ndarray,
        read: Callable[[int], np.ndarray],
        most_positions: int,
        complete: bool,
        per_budget: int | None = None,
    ) -> None:
        self.branches_PL, self.complete, self.per_budget = branches_PL, complete, per_budget
        self.losses = lru_cache(max(_HELD_BYTES // (8 * most_positions * len(branches_PL)), 2))(read)
        """loss_TP of a sequence, by its number among the sequences."""
        self._order_P = np.argsort(_codes(branches_PL))
        self._code_P = _codes(branches_PL)[self._order_P]

    def losses_of(self, number: int, branches_TL: np.ndarray) -> np.ndarray:
        """The loss of one pattern per position: float64 (T,), NaN where the tables do not have it."""
        code_T = _codes(branches_TL)
        place_T = np.minimum(np.searchsorted(self._code_P, code_T), len(self._code_P) - 1)
        loss_T = self.losses(number)[np.arange(len(code_T)), self._order_P[place_T]]
        return np.where(self._code_P[place_T] == code_T, loss_T, np.nan)

    def ranks(self, number: int, loss_T: np.ndarray) -> np.ndarray:
        """The share of all patterns that are better at each position, ties counted half: 0 the best, 1 the worst."""
        loss_TP = self.losses(number)
        below_T, equal_T = ((compare(loss_TP, loss_T[:, None])).sum(axis=1) for compare in (np.less, np.equal))
        return (below_T + np.maximum(equal_T - 1, 0) / 2) / max(loss_TP.shape[1] - 1, 1)

    def all_ranks(self, number: int) -> np.ndarray:
        """`ranks` of every pattern, (T, P); equal losses are told apart by their order."""
        return self.losses(number).argsort(axis=1).argsort(axis=1) / max(len(self.branches_PL) - 1, 1)


def kept_tables(run: StoredRun) -> PatternTables:
    """The losses that a run in an independent context kept: those of every pattern in its budgets."""
    kept = KeptLosses(run)
    branches_PL = kept.read_whole(kept.spans[0].sequence).branches_PL

    def losses(number: int) -> np.ndarray:
        found = kept.read_whole(kept.spans[number].sequence)
        if not np.array_equal(found.branches_PL, branches_PL):
            raise InputError(
                f"{run.place}: sequence {kept.spans[number].sequence} kept losses of other patterns than the first one"
            )
        return found.loss_NP.astype(np.float64)

    n_all = len(run.identity["branches"]) ** run.n_letters
    return PatternTables(branches_PL, losses, max(span.n_positions for span in kept.spans), len(branches_PL) == n_all)


def scored_tables(
    model: OracleModel, problem: Problem, sequences: list[Window], tokens: list[Tensor], sample: int, seed: int
) -> PatternTables:
    """The losses of at most `sample` patterns per budget, drawn with `seed`: in the run's context, or in a committed one as the
    pattern of all tokens."""
    generator = np.random.default_rng((seed, 1))
    budgets = [Budget(BudgetKind.EXACT, k) for k in range(problem.n_letters + 1)]
    spaces = []
    for budget in budgets:
        try:
            spaces.append(SearchSpace(problem.n_letters, problem.branches, budget))
        except ValueError:  # no pattern of these branches has it
            continue
    branches_PL = np.concatenate([space.sample_distinct(sample, generator) for space in spaces])
    committed = problem.context.kind is ContextKind.COMMITTED

    def score(number: int) -> np.ndarray:
        sequence, token_id_T = sequences[number], tokens[number]
        scorer: Scorer = SameScorer(model, sequence.index, token_id_T, problem.skip, n_warm=sequence.n_warm)
        if not committed:
            scorer = scorer_of(model, sequence, token_id_T, problem, NullLabels())
        place_R, pattern_R = (axis.ravel() for axis in np.mgrid[: sequence.n_positions, : len(branches_PL)])
        return scored(scorer, place_R, branches_PL[pattern_R]).reshape(sequence.n_positions, -1)

    found = [score(number) for number in range(len(sequences))]
    complete = not committed and sum(space.size for space in spaces) == len(branches_PL)
    return PatternTables(branches_PL, found.__getitem__, max(map(len, found)), complete, sample)


def pattern_losses(
    model: OracleModel, problem: Problem, window: Window, branches_PL: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """loss_NP of the patterns at a window's positions, on the real labels and, where the window has a reference, expected by it."""
    token_id_T = token_ids_on(model.device, window.token_ids)
    scorer = scorer_of(model, window, token_id_T, problem, NullLabels())
    n_targets = scorer.n_targets
    # the targets of one state stand side by side, so that it is computed once
    place_R, pattern_R, target_R = (axis.ravel() for axis in np.mgrid[: window.n_positions, : len(branches_PL), :n_targets])
    loss_NPY = scored(scorer, place_R, branches_PL[pattern_R], target_R).reshape(window.n_positions, len(branches_PL), n_targets)
    return loss_NPY[..., 0], loss_NPY[..., 1] if n_targets > 1 else None


def _codes(branches_PL: np.ndarray) -> np.ndarray:
    """A sortable key per pattern: its bytes."""
    rows_PL = np.ascontiguousarray(branches_PL, dtype=np.uint8) + ord("0")  # a trailing zero byte would be dropped
    return rows_PL.view(f"S{rows_PL.shape[1]}").ravel()
