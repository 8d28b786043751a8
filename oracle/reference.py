"""A reference: at every scored position of a window, a distribution over the next token that knows more than the searched model.

The expected loss of a pattern's state h under a distribution q is E_q[lse(h) - w_v.h - b_v] = lse(h) - t.h - c, with the direction
t = sum_v q_v w_v and the offset c = sum_v q_v b_v. A label is the direction w_y, so both are searched alike. Where logits are
softly capped no direction says as much, and q itself is kept.

Axes: N scored positions of a window, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reference:
    """The reference's distributions q at N positions, as a search needs them. Plain arrays, so that it pickles."""

    direction_ND: np.ndarray  # float, sum_v q_v w_v over the rows of the searched model's head
    offset_N: np.ndarray  # float, sum_v q_v b_v; 0 where the head has no bias
    loss_target_N: np.ndarray  # float64, -ln q(label) in nats
    entropy_N: np.ndarray  # float64, of q, in nats
    q_NV: np.ndarray | None = None  # float, where the searched model's logits are softly capped

    def at(self, rows: np.ndarray | slice) -> Reference:
        """Those of some positions."""
        return Reference(
            direction_ND=self.direction_ND[rows],
            offset_N=self.offset_N[rows],
            loss_target_N=self.loss_target_N[rows],
            entropy_N=self.entropy_N[rows],
            q_NV=None if self.q_NV is None else self.q_NV[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Reference]) -> Reference:
        """The positions of all parts, one after another. At least one part."""
        q = [part.q_NV for part in parts if part.q_NV is not None]
        return cls(
            direction_ND=np.concatenate([part.direction_ND for part in parts]),
            offset_N=np.concatenate([part.offset_N for part in parts]),
            loss_target_N=np.concatenate([part.loss_target_N for part in parts]),
            entropy_N=np.concatenate([part.entropy_N for part in parts]),
            q_NV=np.concatenate(q) if q else None,
        )
