"""Losses of patterns at positions, as plain arrays: what an oracle run teaches a router. Knows nothing of runs.

Axes: T token, R evaluated patterns of any positions, L layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from duo_oracle.models.router import Router


@dataclass(frozen=True)
class PatternLabels:
    """One sequence, the routing that its earlier tokens had, and the losses of patterns at its positions, those of `token_ids`."""

    token_ids: np.ndarray  # int32, (T,), warm ones in front with them
    context_TL: np.ndarray  # uint8: the routing under which the losses were found
    position_R: np.ndarray  # int64
    branches_RL: np.ndarray  # uint8
    loss_R: np.ndarray  # float64, nats
    n_warm: int = 0  # first tokens that are all-big whatever routes the others


@runtime_checkable
class Teacher(Protocol):
    """Runs that can be asked for more than the losses that they kept, which iterating gives."""

    def __iter__(self) -> Iterator[PatternLabels]: ...

    def found(self, target: str, sample: int, seed: int, router: Router | None) -> Iterable[PatternLabels]:
        """The losses of `sample` random patterns at every position of the runs, found now: on the real labels (`label`), or as the
        runs' reference expects them (`reference`); the earlier tokens routed as in the runs, or by `router`.

        Raises InputError for runs without a reference, and without a router for those whose earlier tokens have no one routing.
        """
