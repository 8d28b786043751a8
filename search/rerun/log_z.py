"""log Z: by how much an oracle is not a distribution.

Z = sum over v of max over patterns of p(v | pattern): the normaliser of the normalised maximum likelihood (Shtarkov 1987). An
oracle that chooses after it has seen the label must be charged log Z to be compared with a model: its loss + log Z is a code
length. Needs the full logits of every pattern, so it is computed at some positions alone.

Axes: N positions, P leaves, Q budgets, G groups of leaves, V vocabulary, D hidden, T token, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.contexts import Context, ContextKind, SkipReading
from duo_oracle.oracle.engine.choice import Groups
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.walk import FixedContext
from duo_oracle.oracle.model import OracleModel, token_ids_on
from duo_oracle.oracle.patterns import Branch, RoutingPattern

_ROWS = 512  # leaves whose logits are held at once


@dataclass(frozen=True)
class Space:
    """Which patterns there are to choose from."""

    branches: tuple[Branch, ...]
    budgets: tuple[Budget, ...]
    skip: SkipReading


def log_z(
    model: OracleModel, space: Space, sequence: Window, routing: RoutingPattern | np.ndarray, position_N: np.ndarray
) -> np.ndarray:
    """log Z under every budget at some scored positions of a sequence, counted from its first, in nats: float64 (N, Q).

    The earlier tokens took `routing`: one pattern, or mask_NL with a row per scored position.
    """
    token_id_T = token_ids_on(model.device, sequence.token_ids)
    mask_TL = sequence.run_mask(routing) if isinstance(routing, np.ndarray) else routing
    context = FixedContext(model, token_id_T[:-1], mask_TL, space.skip, sequence.n_warm)
    head = Head(model)
    row_of = {sequence.n_warm + int(position): row for row, position in enumerate(position_N)}
    found_NQ = np.full((len(position_N), len(space.budgets)), np.nan)
    for position_M, leaves in ExactOracle(model, space.branches, space.budgets, space.skip).walk(context):
        wanted = [(place, row_of[position]) for place, position in enumerate(position_M.tolist()) if position in row_of]
        if not wanted:
            continue
        greatest = {row: torch.full((len(space.budgets), model.n_vocabulary), -torch.inf, dtype=head.dtype) for _, row in wanted}
        for h_NPD, groups in leaves:
            for place, row in wanted:
                greatest[row] = torch.maximum(greatest[row], _greatest(head, h_NPD[place], groups).cpu())
        for row, greatest_QV in greatest.items():
            found_NQ[row] = torch.logsumexp(greatest_QV.double(), dim=1).numpy()
    return found_NQ


def routing_of(context: Context, mask_NL: np.ndarray | None) -> RoutingPattern | np.ndarray:
    """What the earlier tokens took: the context's pattern, or `mask_NL`. Raises InputError for the context same."""
    if context.kind is ContextKind.SAME:
        raise InputError("log Z is of one context's distributions; in the context same every pattern has a context of its own")
    if context.pattern is not None:
        return context.pattern
    assert mask_NL is not None
    return mask_NL


def _greatest(head: Head, h_PD: Tensor, groups: Groups) -> Tensor:
    """The greatest log p(v | leaf) over the leaves that each budget admits: (Q, V)."""
    found_QV = h_PD.new_full((len(groups.admits_QG), len(head.w_VD)), -torch.inf)
    for group, span in enumerate(groups.spans):
        admitting = torch.from_numpy(np.flatnonzero(groups.admits_QG[:, group])).to(h_PD.device)
        for rows in chunks(span.stop - span.start, _ROWS):
            h_RD = h_PD[span][rows]
            top_V = torch.log_softmax(head.logits(h_RD), dim=1).amax(dim=0)
            found_QV[admitting] = torch.maximum(found_QV[admitting], top_V)
    return found_QV
