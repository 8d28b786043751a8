"""Sequences decided side by side, token by token from left to right: the walk of a committed context.

A lane is a sequence. At every position the lanes that have a token there stand in rows, the longest first, so that those which
end drop out at the end; what was decided is committed before the walk goes on. A lane's first tokens may be warm: they are
committed all-big, and nobody decides them. Knows not how a token is decided.

Axes: N lanes that are decided side by side at one position, D hidden, L routed layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.walk import Attend, CommittedContext
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.reference import Reference


class Step:
    """One position of the lanes that have a token to decide there; `commit` says what each of them took."""

    def __init__(
        self,
        context: CommittedContext,
        position: int,
        lanes: tuple[int, ...],
        token_ids: Sequence[Tensor],
        warm: frozenset[int] = frozenset(),
    ) -> None:
        self._context, self.position = context, position
        self.lanes = tuple(lane for lane in lanes if lane not in warm)
        """Row by row, which of the sequences."""
        self._token_ids = token_ids
        self._x_MD = context.begin(position, torch.stack([token_ids[lane][position] for lane in lanes]))
        cold = [row for row, lane in enumerate(lanes) if lane not in warm]
        self._row_N = None if len(cold) == len(lanes) else torch.tensor(cold, dtype=torch.int64, device=self._x_MD.device)
        self.x_ND = self._x_MD if self._row_N is None else self._x_MD[self._row_N]
        """The states of the rows' tokens before the first routed layer."""
        self.committed = False

    def attend(self, rows: slice | Tensor) -> Attend:
        """Attention for the states of some of the rows."""
        return self._context.attend(self.position, rows if self._row_N is None else self._row_N[rows])

    @property
    def target_N(self) -> Tensor:
        """The rows' next tokens."""
        return self._token_N(self.position + 1)

    def reference(self, references: Sequence[Reference], n_warm: Sequence[int] | None, lanes: Sequence[int]) -> Reference:
        """Of the rows of these lanes, what each sequence's reference says of this position."""
        rows = [self.position - (n_warm[lane] if n_warm is not None else 0) for lane in lanes]
        return Reference.joined([references[lane].at(slice(row, row + 1)) for lane, row in zip(lanes, rows, strict=True)])

    def commit(self, branches_NL: np.ndarray) -> None:
        """Every row's token took its row of the branches: what later tokens see of it."""
        if self._row_N is not None:
            cold_NL, branches_NL = branches_NL, np.full((len(self._x_MD), self._context.n_letters), Branch.BIG, dtype=np.uint8)
            branches_NL[self._row_N.cpu().numpy()] = cold_NL
        self._context.commit(self.position, self._x_MD, branches_NL)
        self.committed = True

    def _token_N(self, position: int) -> Tensor:
        return torch.stack([self._token_ids[lane][position] for lane in self.lanes])


def left_to_right(
    model: OracleModel, token_ids: Sequence[Tensor], skip: SkipReading, n_warm: Sequence[int] | None = None
) -> Iterator[Step]:
    """Every position of the sequences but the last tokens, which nobody scores. Each step must be committed before the next.
    `n_warm` are how many first tokens of each sequence are warm; a position at which all are has no step.

    `token_ids` are int64 on the model's device, at least two tokens each. A position's tokens are read when its step begins, so
    a caller that draws its text may write them as it goes.
    """
    order = sorted(range(len(token_ids)), key=lambda lane: -len(token_ids[lane]))
    n_decided = len(token_ids[order[0]]) - 1
    context = CommittedContext(model, len(order), n_decided, skip)
    for position in range(n_decided):
        warm = frozenset() if n_warm is None else frozenset(lane for lane in order if position < n_warm[lane])
        step = Step(context, position, tuple(lane for lane in order if position < len(token_ids[lane]) - 1), token_ids, warm)
        if not step.lanes:
            step.commit(np.empty((0, model.n_letters), dtype=np.uint8))
            continue
        yield step
        assert step.committed, "a step is committed before the next begins"
