"""A whole pass of a library's model in which each token takes its branches: the slow reference that all else is held to.

The model's own forward runs; only its layers' outputs are chosen from. Knows no family.

Axes: B batch, T token, L layer, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.blocks import Parts, no_ffn, other_ffn
from duo_oracle.models.hf.calls import Forward, first_state, main_output, patched
from duo_oracle.models.hf.trunk import Trunk
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch


@dataclass(frozen=True)
class Ffns:
    """A layer's FFN as children of the layer, and the small one that may stand in for them."""

    parts: Parts
    children: Mapping[str, nn.Module]
    small: Mapping[str, nn.Module] | None = None


@torch.no_grad()
def routed_logits(trunk: Trunk, ffns: Sequence[Ffns], token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
    """logits_BTV, where token t of sequence b takes the branches mask_BTL[b, t], a column for every layer."""

    def routed(number: int, own: Forward) -> Forward:
        ffn, branch_BT1 = ffns[number], mask_BTL[:, :, number, None]

        def forward(*args: Any, **kwargs: Any) -> Any:
            x_BTD = first_state(args, kwargs)
            out = own(*args, **kwargs)
            big_BTD = h_BTD = main_output(out)
            if (branch_BT1 == Branch.SKIP).any():
                skipped_BTD = x_BTD
                if skip is SkipReading.FFN:
                    with patched(no_ffn(ffn.parts, ffn.children, big_BTD.shape[-1])):
                        skipped_BTD = main_output(own(*args, **kwargs))
                h_BTD = torch.where(branch_BT1 == Branch.SKIP, skipped_BTD, h_BTD)
            if (branch_BT1 == Branch.SMALL).any():
                assert ffn.small is not None, "a layer without a small FFN"
                with patched(other_ffn(ffn.parts, ffn.children, ffn.small)):
                    h_BTD = torch.where(branch_BT1 == Branch.SMALL, main_output(own(*args, **kwargs)), h_BTD)
            return (h_BTD, *out[1:]) if isinstance(out, tuple) else h_BTD

        return forward

    taken = [number for number in range(trunk.depth) if (mask_BTL[:, :, number] != Branch.BIG).any()]
    with patched((trunk.layers[number], routed(number, trunk.layers[number].forward)) for number in taken):
        return trunk.run(token_id_BT)
