"""What a reference says of a window, made ready for the search: directions in the searched model's hidden space.

Axes: N positions, T token, V vocabulary, D hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.walk import SameContext, run_big
from duo_oracle.oracle.model import OracleModel, finite
from duo_oracle.oracle.reference import Reference


def states_of_full(model: OracleModel, head: Head, token_id_T: Tensor) -> Tensor:
    """The states h_TD that the full model's head multiplies, of every token of one plain pass. Raises InputError
    for one that is not finite."""
    context = SameContext(model, token_id_T)
    layers = range(model.routed_layers[0], model.depth)
    return finite(head.states(run_big(model, layers, context.start_ND[None], context.attend)[0]), "a loss")


def reference_of(head: Head, log_q_NV: Tensor, label_N: Tensor) -> Reference:
    """The distributions q at N positions, ln q in float64, as targets of the searched model's `head`."""
    q_NV = log_q_NV.exp()
    direction_ND, offset_N = head.directions(q_NV)
    loss_N = -log_q_NV.gather(1, label_N[:, None])[:, 0]
    entropy_N = -torch.where(q_NV > 0, q_NV * log_q_NV, 0.0).sum(dim=1)
    return Reference(
        direction_ND=direction_ND.cpu().numpy(),
        offset_N=offset_N.cpu().numpy(),
        loss_target_N=loss_N.clamp(min=0).cpu().numpy(),
        entropy_N=entropy_N.clamp(min=0).cpu().numpy(),
        q_NV=None if head.convex else q_NV.to(head.dtype).cpu().numpy(),
    )
