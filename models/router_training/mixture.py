"""The forward pass in which a router learns: every layer's output is the sum of its branches' outputs, each times its share.

Where every share is 0 or 1 it equals the plain forward pass with those routes. The model is frozen: gradients pass through it
to the shares and change nothing of it. Knows no router in particular.

Axes: B batch, T token, D hidden, K branches, V vocabulary, N tokens of the batch (B x T).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from duo_oracle.models.routable import RoutableModule, letters_of
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

Mix = Callable[[int, Tensor], Tensor]
"""(letter, normed FFN input x_BTD) -> share_BTK over the branches, summing to one."""


def mixed_logits(
    module: RoutableModule,
    token_id_BT: Tensor,
    mix: Mix,
    branches: tuple[Branch, ...],
    skip: SkipReading = SkipReading.FFN,
    everywhere: bool = True,
) -> Tensor:
    """logits_BTV. Without `everywhere` an FFN is computed only for the tokens whose share of it is not 0, and only they pass it
    a gradient."""
    x_BTD = module.embed(token_id_BT)
    letters = letters_of(module)
    for layer in range(module.depth):
        attended_BTD = module.attend(layer, x_BTD)
        normed_BTD = module.ffn_input(layer, attended_BTD, x_BTD)
        if layer not in letters:
            x_BTD = attended_BTD + module.ffn(layer, Branch.BIG, normed_BTD)
            continue
        share_BTK = mix(letters[layer], normed_BTD)
        out_BTD = attended_BTD
        for place, branch in enumerate(branches):
            share_BT1 = share_BTK[..., place : place + 1]
            if branch is not Branch.SKIP:
                ffn = partial(module.ffn, layer, branch)
                out_BTD = out_BTD + (share_BT1 * ffn(normed_BTD) if everywhere else _where_used(ffn, normed_BTD, share_BT1))
            elif skip is SkipReading.LAYER:
                out_BTD = out_BTD + share_BT1 * (x_BTD - attended_BTD)
        x_BTD = out_BTD
    return module.logits(x_BTD)


def _where_used(ffn: Callable[[Tensor], Tensor], x_BTD: Tensor, share_BT1: Tensor) -> Tensor:
    """share x ffn(x) at the tokens whose share is not 0, and 0 elsewhere."""
    x_ND, share_N1 = x_BTD.flatten(0, 1), share_BT1.flatten(0, 1)
    used = share_N1.detach().squeeze(1).nonzero().squeeze(1)
    part = share_N1.index_select(0, used) * ffn(x_ND.index_select(0, used))
    return torch.zeros_like(x_ND).index_add(0, used, part).view_as(x_BTD)
