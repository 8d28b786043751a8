"""Ask, score, tell: one strategy over the places of a scorer until it ends, keeping each token's best.

Knows neither files nor workers, and of the model only its scorer. A strategy's token is a place under one of its targets, so
that the null gain of any strategy is what the same strategy finds for a drawn label, and its reference's path likewise.

Axes: R rows (trials), N tokens of the strategy, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.engine.scorer import Scorer
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.rounds import best_rows, row_keys
from duo_oracle.search.strategy import Strategy, Trials

_MOST_ROWS = 16384  # proposals of one round, over all tokens

OnTrials = Callable[[Trials], None]


@dataclass(frozen=True)
class Best:
    """The best trial of every token among the patterns of the space, by the rule of ties, and what it cost."""

    loss_N: np.ndarray  # float64
    branches_NL: np.ndarray  # uint8
    evaluations_N: np.ndarray  # int64: distinct patterns evaluated, those outside the budget included
    chosen_from_N: np.ndarray  # int64: distinct patterns of the space evaluated


def run_strategy(strategy: Strategy, scorer: Scorer, on_trials: OnTrials | None = None) -> Best:
    """Run the strategy to its end; token n is place n // n_targets with target n % n_targets.

    A loss that is not finite is a failed trial. Raises InputError where all trials of a token failed, or none was asked.
    """
    n_each = max(1, _MOST_ROWS // strategy.n_tokens)
    rounds: list[Trials] = []
    while len((proposals := strategy.ask(n_each)).token_R):
        place_R, target_R = np.divmod(proposals.token_R, scorer.n_targets)
        loss_R = scorer.score(place_R, proposals.branches_RL, target_R)
        trials = Trials(proposals.token_R, proposals.branches_RL, loss_R, np.isfinite(loss_R))
        strategy.tell(trials)
        rounds.append(trials)
        if on_trials is not None:
            on_trials(trials)
    return best_of(rounds, strategy.n_tokens, strategy.space)


def best_of(rounds: list[Trials], n_tokens: int, space: SearchSpace) -> Best:
    """The best complete trial in the space of every token. Raises InputError for a token without one."""
    token_R = np.concatenate([np.empty(0, dtype=np.int64), *(trials.token_R for trials in rounds)])
    branches_RL = np.concatenate([np.empty((0, space.n_letters), dtype=np.uint8), *(trials.branches_RL for trials in rounds)])
    loss_R = np.concatenate([np.empty(0), *(trials.loss_R for trials in rounds)])
    complete_R = np.concatenate([np.empty(0, dtype=bool), *(trials.complete_R for trials in rounds)])
    token_R, branches_RL, loss_R = token_R[complete_R], branches_RL[complete_R], loss_R[complete_R]
    inside_R = space.contains(branches_RL)
    without = np.setdiff1d(np.arange(n_tokens), token_R[inside_R])
    if len(without):
        raise InputError(f"every token needs one pattern of finite loss; token {without[0]} of {n_tokens} has none")
    n_inside_N = _distinct(token_R[inside_R], branches_RL[inside_R], n_tokens)
    n_outside_N = _distinct(token_R[~inside_R], branches_RL[~inside_R], n_tokens)
    best_B = best_rows(token_R[inside_R], loss_R[inside_R], branches_RL[inside_R], 1, space.branches)
    first_N = np.flatnonzero(inside_R)[best_B]
    return Best(loss_R[first_N], branches_RL[first_N], n_inside_N + n_outside_N, n_inside_N)


def _distinct(token_R: np.ndarray, branches_RL: np.ndarray, n_tokens: int) -> np.ndarray:
    """How many different patterns each token has: int64 (N,)."""
    seen: set[bytes] = set()
    new_R = np.zeros(len(token_R), dtype=bool)
    for row, key in enumerate(row_keys(token_R, branches_RL)):
        new_R[row] = key not in seen
        seen.add(key)
    return np.bincount(token_R[new_R], minlength=n_tokens)
