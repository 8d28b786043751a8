"""Sequences decided side by side, token by token from left to right: the walk of a committed context.

A lane is a sequence. At every position the lanes that have a token to decide there stand in rows, the longest first, so that
those which end drop out at the end; what was decided is committed before the walk goes on. Knows not how a token is decided.

Axes: N lanes that are decided side by side at one position, D hidden, L routed layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.walk import CommittedContext
from duo_oracle.oracle.model import OracleModel


class Step:
    """One position of the lanes that have a token to decide there; `commit` says what each of them took."""

    def __init__(self, context: CommittedContext, position: int, lanes: tuple[int, ...], token_ids: Sequence[Tensor]) -> None:
        self.context, self.position = context, position
        self.lanes = lanes
        """Row by row, which of the sequences."""
        self._token_ids = token_ids
        self.x_ND = context.begin(position, self._token_N(position))
        """The states of the rows' tokens before the first routed layer."""
        self.committed = False

    @property
    def target_N(self) -> Tensor:
        """The rows' next tokens."""
        return self._token_N(self.position + 1)

    def commit(self, branches_NL: np.ndarray) -> None:
        """Every row's token took its row of the branches: what later tokens see of it."""
        self.context.commit(self.position, self.x_ND, branches_NL)
        self.committed = True

    def _token_N(self, position: int) -> Tensor:
        return torch.stack([self._token_ids[lane][position] for lane in self.lanes])


def left_to_right(model: OracleModel, token_ids: Sequence[Tensor], skip: SkipReading) -> Iterator[Step]:
    """Every position of the sequences but the last tokens, which nobody scores. Each step must be committed before the next.

    `token_ids` are int64 on the model's device, at least two tokens each. A position's tokens are read when its step begins, so
    a caller that draws its text may write them as it goes.
    """
    order = sorted(range(len(token_ids)), key=lambda lane: -len(token_ids[lane]))
    n_decided = len(token_ids[order[0]]) - 1
    context = CommittedContext(model, len(order), n_decided, skip)
    for position in range(n_decided):
        step = Step(context, position, tuple(lane for lane in order if position < len(token_ids[lane]) - 1), token_ids)
        yield step
        assert step.committed, "a step is committed before the next begins"
