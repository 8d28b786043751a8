"""Losses of patterns at positions, as plain arrays: what an oracle run teaches a router. Knows nothing of runs or routers.

Axes: T token, R evaluated patterns of any positions, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PatternLabels:
    """One sequence, the routing that its earlier tokens had, and the losses of patterns at its positions, those of `token_ids`."""

    token_ids: np.ndarray  # int32, (T,), warm ones in front with them
    context_TL: np.ndarray  # uint8: the routing under which the losses were found
    position_R: np.ndarray  # int64
    branches_RL: np.ndarray  # uint8
    loss_R: np.ndarray  # float64, nats
    n_warm: int = 0  # first tokens that are all-big whatever routes the others
