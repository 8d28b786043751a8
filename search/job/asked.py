"""A strategy asked at the places of a scorer: what it finds there, as rows of oracle paths and of trials.

Knows no contexts, no files and no Ray: what is found goes to a sink.

Axes: N places or tokens of a strategy, Y targets (labels, then the reference), R rows, L layer.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle import records
from duo_oracle.oracle.engine.labels import NullGains
from duo_oracle.oracle.engine.scorer import Scorer
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.records import OraclePaths, PatternLosses
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.loop import Best, run_strategy
from duo_oracle.search.job.problem import Keep, Problem
from duo_oracle.search.strategy import Trials, build_strategy


class Sink(Protocol):
    """Takes what is found, sequence by sequence or interleaved. Positions are those of the text, whatever stands in front of it."""

    def paths(self, sequence: Window, paths: OraclePaths) -> None: ...

    def losses(self, sequence: Window, block: PatternLosses) -> None: ...

    def trials(self, sequence: Window, trials: records.Trials) -> None: ...

    def found(self, n_rows: int) -> None:
        """So many rows of paths more are known, though not yet handed over."""


class Nowhere:
    """A sink that keeps nothing."""

    def _ignored(self, *found: Any) -> None: ...

    paths = losses = trials = found = _ignored


def ask(
    scorer: Scorer,
    problem: Problem,
    budget: int,
    position_N: np.ndarray,
    sequence_N: list[Window],
    sink: Sink,
    cheapest: Branch,
) -> OraclePaths:
    """Run the strategy for one budget over all places of a scorer: one row per place."""
    n_places, n_targets = scorer.n_places, scorer.n_targets
    space = problem.spaces()[budget]
    generator = np.random.default_rng(
        (problem.seed, zlib.crc32(problem.strategy.encode()), sequence_N[0].index, int(position_N[0]), budget)
    )
    strategy = build_strategy(problem.strategy, problem.settings, space, n_places * n_targets, generator)

    def keep_trials(trials: Trials) -> None:
        place_R, target_R = np.divmod(trials.token_R, n_targets)
        for sequence in dict.fromkeys(map(id, sequence_N)):
            mine_N = np.array([id(other) == sequence for other in sequence_N])
            rows = np.flatnonzero((target_R == 0) & mine_N[place_R])
            window = sequence_N[int(np.flatnonzero(mine_N)[0])]
            sink.trials(window, _stored(trials, rows, position_N[place_R[rows]] - window.n_front, budget))

    best = run_strategy(strategy, scorer, keep_trials if problem.keep is Keep.TRIALS else None)
    sink.found(scorer.n_places)
    small_NY, big_NY = (uniform_losses(scorer, branch, problem.n_letters) for branch in (cheapest, Branch.BIG))
    return paths_of(best, scorer, space, position_N, budget, small_NY, big_NY)


def paths_of(
    best: Best,
    scorer: Scorer,
    space: SearchSpace,
    position_N: np.ndarray,
    budget: int,
    small_NY: np.ndarray,
    big_NY: np.ndarray,
) -> OraclePaths:
    """The rows of what a strategy found at the places of a scorer under one budget, beside all-small and all-big there."""
    n_places, n_labels, n_targets = scorer.n_places, scorer.n_labels, scorer.n_targets
    loss_NY = best.loss_N.reshape(n_places, n_targets)
    null = NullGains.of(loss_NY[:, :n_labels, None], small_NY[:, :n_labels], big_NY[:, :n_labels])
    evaluations_N = best.evaluations_N[::n_targets].astype(np.int32)
    of_reference = {}
    if n_targets > n_labels:
        ref_branches_NL = best.branches_NL[n_labels::n_targets]
        of_reference = {
            "ref_branches_RL": ref_branches_NL,
            "ref_expected_gain_R": big_NY[:, -1] - loss_NY[:, -1],
            "ref_loss_R": scorer.score(np.arange(n_places), ref_branches_NL),
        }
    return OraclePaths(
        position_R=position_N.astype(np.int32),
        budget_R=np.full(n_places, budget, dtype=np.int16),
        branches_RL=best.branches_NL[::n_targets],
        loss_R=loss_NY[:, 0],
        loss_cheapest_R=small_NY[:, 0],
        loss_full_R=big_NY[:, 0],
        evaluations_R=evaluations_N,
        certified_R=best.chosen_from_N[::n_targets] == space.size,
        null_gain_R=null.gain_NQ[:, 0],
        null_difficulty_R=null.difficulty_NQ[:, 0],
        null_above_R=null.above_NQ[:, 0],
        entropy_full_R=np.full(n_places, np.nan),
        leaves_R=evaluations_N,
        **of_reference,
    )


def uniform_losses(scorer: Scorer, branch: Branch, n_letters: int) -> np.ndarray:
    """Losses of the pattern that takes one branch everywhere, at every place under every target: float64 (N, Y)."""
    place_R, target_R = (axis.ravel() for axis in np.mgrid[: scorer.n_places, : scorer.n_targets])
    branches_RL = np.full((len(place_R), n_letters), branch, dtype=np.uint8)
    return scorer.score(place_R, branches_RL, target_R).reshape(scorer.n_places, scorer.n_targets)


def _stored(trials: Trials, rows: np.ndarray, position_R: np.ndarray, budget: int) -> records.Trials:
    complete_R = trials.complete_R[rows]
    return records.Trials(
        position_R=position_R.astype(np.int32),
        budget_R=np.full(len(rows), budget, dtype=np.int16),
        branches_RL=trials.branches_RL[rows],
        loss_R=np.where(complete_R, trials.loss_R[rows], np.nan),
        message_R=tuple("" if complete else "the loss is not a finite number" for complete in complete_R),
    )
