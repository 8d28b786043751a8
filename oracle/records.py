"""What scoring and searching return: frozen records of arrays, one row per thing found.

Axes: R rows (position x budget, or trial), N positions, P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_NOT_GIVEN = np.empty(0)


def _not_given() -> np.ndarray:
    return _NOT_GIVEN


@dataclass(frozen=True)
class OraclePaths:
    """The best pattern of every position under every budget, with what it is compared with. One row per position and budget.

    Losses are in nats. `budget_R` indexes the run's budgets. Where no labels were drawn, the null columns are NaN; where the
    entropy is not known, it is. Without a reference its patterns have no letters, and its columns are NaN;
    `within_R` is NaN where `certified_R` says all that is known.
    """

    position_R: np.ndarray  # int32
    budget_R: np.ndarray  # int16
    branches_RL: np.ndarray  # uint8
    loss_R: np.ndarray  # float64
    loss_cheapest_R: np.ndarray  # float64
    loss_full_R: np.ndarray  # float64
    evaluations_R: np.ndarray  # int32: patterns whose loss was computed or certified not to be the best
    certified_R: np.ndarray  # bool: proven to be the best of the space
    null_gain_R: np.ndarray  # float64: mean over drawn labels of what the oracle gains on all-big
    null_difficulty_R: np.ndarray  # float64: the same, on all-small
    null_above_R: np.ndarray  # float64: how many drawn labels the oracle gains as much for, on all-small, as for the real one
    entropy_full_R: np.ndarray  # float64: of the distribution that all-big gives at the position
    leaves_R: np.ndarray  # int32: patterns whose loss was computed through the whole vocabulary head
    ref_branches_RL: np.ndarray = field(default_factory=_not_given)  # uint8: the pattern of least expected loss under the reference
    ref_expected_gain_R: np.ndarray = field(default_factory=_not_given)  # float64: loss_full - its loss, both expected
    ref_loss_R: np.ndarray = field(default_factory=_not_given)  # float64: the real label's loss of that pattern
    own_branches_RL: np.ndarray = field(default_factory=_not_given)  # uint8: what a mixture's own router takes, 0 outside the table
    own_cost_R: np.ndarray = field(default_factory=_not_given)  # float64: how many experts that is
    within_R: np.ndarray = field(default_factory=_not_given)  # float64: proven to be at most so far above the best, in nats

    def __post_init__(self) -> None:
        for name in ("ref_branches_RL", "own_branches_RL"):
            if getattr(self, name) is _NOT_GIVEN:
                object.__setattr__(self, name, np.zeros((len(self.position_R), 0), dtype=np.uint8))
        for name in ("ref_expected_gain_R", "ref_loss_R", "own_cost_R", "within_R"):
            if getattr(self, name) is _NOT_GIVEN:
                object.__setattr__(self, name, np.full(len(self.position_R), np.nan))

    @property
    def has_reference(self) -> bool:
        """Whether a reference's patterns were searched for as well."""
        return self.ref_branches_RL.shape[1] > 0

    @property
    def has_own(self) -> bool:
        """Whether what the model's own router takes is known."""
        return self.own_branches_RL.shape[1] > 0


@dataclass(frozen=True)
class PatternLosses:
    """The loss of every pattern of a block at some positions (`--keep losses`).

    Under a committed context `budget` is the index of the budget whose pass this was; None where one pass serves all.
    """

    position_N: np.ndarray  # int32
    branches_PL: np.ndarray  # uint8
    loss_NP: np.ndarray  # float32
    budget: int | None = None


@dataclass(frozen=True)
class Trials:
    """Evaluated patterns in the order in which they were asked for (`--keep trials`).

    A failed one has a message, and a loss of NaN.
    """

    position_R: np.ndarray  # int32
    budget_R: np.ndarray  # int16
    branches_RL: np.ndarray  # uint8
    loss_R: np.ndarray  # float64
    message_R: tuple[str, ...]  # empty where the trial is complete


def rows_of(paths: OraclePaths, index_R: np.ndarray) -> OraclePaths:
    """The rows that `index_R` names, in its order."""
    return OraclePaths(**{name: value[index_R] for name, value in vars(paths).items()})


def concatenated(parts: Sequence[OraclePaths]) -> OraclePaths:
    """The rows of all parts, one after another. At least one part."""
    return OraclePaths(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def in_order(paths: OraclePaths) -> OraclePaths:
    """The rows by position, then budget."""
    return rows_of(paths, np.lexsort((paths.budget_R, paths.position_R)))
