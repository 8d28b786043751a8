"""The losses of plain forward passes: what every token costs when the sequence takes given branches, by no faster way than the
model's own `forward`.

Everything that is measured beside the engine goes through here: evaluations in training, routers' own passes, studies. Knows
nothing of search or training.

Axes: B batch, T token, L routed layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.routable import RoutableModule, Routing
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel, finite, losses_of, token_ids_on
from duo_oracle.oracle.patterns import Branch


@torch.no_grad()
def plain_losses(
    model: RoutableModule | OracleModel, token_id_BT: Tensor, routing: Routing, skip: SkipReading = SkipReading.FFN
) -> Tensor:
    """The loss of every token but the first, float64 (B, T - 1), in nats, of one pass in which `routing` says who takes what.

    `routing` is a mask (B, T - 1, L) of any integer dtype; of a RoutableModule it may also be a function, as its `forward` takes.
    The last token is nobody's context: it is run by no one. Raises InputError for a loss that is not finite.
    """
    if isinstance(model, RoutableModule):
        logits_BTV = model(token_id_BT[:, :-1], routing, skip)
    else:
        assert isinstance(routing, Tensor), "an OracleModel is routed by a mask"
        logits_BTV = model.forward(token_id_BT[:, :-1], routing, skip)
    return finite(losses_of(logits_BTV, token_id_BT[:, 1:]), "a loss")


def window_losses(
    model: RoutableModule | OracleModel, window: Window, mask_NL: np.ndarray, skip: SkipReading = SkipReading.FFN
) -> np.ndarray:
    """The loss of every scored position of a window, float64 (N,): each takes its row of `mask_NL`, and warm tokens all-big."""
    device = model.unembedding_VD.device
    token_id_1T = token_ids_on(device, window.token_ids)[None]
    mask_1TL = torch.from_numpy(np.ascontiguousarray(window.run_mask(mask_NL), dtype=np.int64))[None].to(device)
    return plain_losses(model, token_id_1T, mask_1TL, skip)[0, window.n_warm :].cpu().numpy()


@dataclass(frozen=True)
class Evaluation:
    """Mean losses in nats per token over the scored positions of whole windows."""

    n_tokens: int
    loss_big: float
    loss_small: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def evaluate(module: RoutableModule, windows: Iterable[Window], max_tokens: int) -> Evaluation:
    """All-big and all-small on the first windows, up to `max_tokens` scored positions (at least one window)."""
    totals = {Branch.BIG: 0.0, Branch.SMALL: 0.0}
    n_tokens = 0
    for window in windows:
        for branch in totals:
            mask_TL = np.full((window.n_positions, module.n_letters), branch)
            totals[branch] += float(window_losses(module, window, mask_TL).sum())
        n_tokens += window.n_positions
        if n_tokens >= max_tokens:
            break
    losses = {branch: total / n_tokens for branch, total in totals.items()}
    return Evaluation(n_tokens, losses[Branch.BIG], losses[Branch.SMALL])
