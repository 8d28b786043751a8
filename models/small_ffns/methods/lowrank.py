"""Each matrix of the big FFN as a product of two of small rank, without training.

The product of rank r that comes nearest to a matrix W *on the inputs that it reads* is U Uᵀ W, where U are the r leading principal
directions of its outputs: the eigenvectors of W C Wᵀ, C the second moments of the inputs on the text. With C = 1 it is the plain
SVD of W.

Axes: N tokens of a batch, O outputs, I inputs, r rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.models.hf.small_ffn import linear_shape, linears, matrix_OI
from duo_oracle.models.small_ffns.method import SmallTask, hear_inputs, n_inner

TOKENS = 4096
_RIDGE = 1e-6
"""Share of the inputs' mean square that is added to each: directions that the text never shows keep an order."""


def sizes(module: PretrainedModule, ratio: float) -> dict[str, int]:
    ffn = module.big_ffn(0)
    n_out, n_in = linear_shape(ffn.get_submodule(linears(ffn)[1]))  # the product is the same for all maps
    rank = round(ratio * n_out * n_in / (n_out + n_in))
    return {"small_intermediate_size": n_inner(module), "small_rank": min(max(1, rank), n_out, n_in)}


def make(task: SmallTask) -> dict[str, Any]:
    maps: dict[tuple[int, str], nn.Module] = {}
    for layer in task.layers:
        ffn = task.module.big_ffn(layer)
        into, out = linears(ffn)
        maps |= {(layer, name): ffn.get_submodule(name) for name in (*into, out)}
    moments = {key: torch.zeros(1, dtype=torch.float64) for key in maps}

    def hear(key: tuple[int, str], x_NI: Tensor) -> None:
        moments[key] = moments[key].to(x_NI.device) + (x_NI.T @ x_NI).double()

    hear_inputs(task, maps, hear)
    for (layer, name), big in maps.items():
        first, second = task.small_ffn(layer).get_submodule(name).children()
        fill_factors(big, first, second, moments[layer, name])
    return {}


@torch.no_grad()
def fill_factors(big: nn.Module, first: nn.Module, second: nn.Module, moment_II: Tensor) -> None:
    """Makes second(first(x)) the map of its rank that is nearest to `big` on inputs of these second moments."""
    weight_OI = matrix_OI(big).double()
    moment_II = moment_II + _RIDGE * moment_II.diagonal().mean() * torch.eye(
        len(moment_II), dtype=torch.float64, device=moment_II.device
    )
    directions_OO = torch.linalg.eigh(weight_OI @ moment_II @ weight_OI.T).eigenvectors
    directions_Or = directions_OO[:, -matrix_OI(first).shape[0] :]
    matrix_OI(first).copy_(directions_Or.T @ weight_OI)
    matrix_OI(second).copy_(directions_Or)
    if big.bias is not None:
        assert isinstance(big.bias, Tensor)
        assert isinstance(second.bias, Tensor)
        second.bias.copy_(big.bias)
