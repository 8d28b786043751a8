"""Small FFNs beside the big ones of a pretrained model: where they hang, and their low-rank form.

config.json says what there is: `small_intermediate_size` (neurons of each), `small_rank` (each matrix is a product of two of this
rank), `small_layers` (the layers that have one; default all). Knows no family and no way to make their weights.

Axes: O outputs, I inputs of a linear map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from duo_oracle.models.checkpoint import BASE, BASE_FINGERPRINT
from duo_oracle.oracle.base.errors import InputError

OUR_KEYS = ("small_intermediate_size", "small_rank", "small_layers", BASE, BASE_FINGERPRINT, "method")
"""Keys of config.json that are not transformers'."""


def attach_small(layers: nn.ModuleList, new: Callable[[int], nn.Module], config: Mapping[str, Any]) -> None:
    """Gives the layers that config.json names a small FFN, `small_mlp`, made by `new(neurons)`.

    Raises InputError for sizes and layers that are none.
    """
    n_inner, rank = config.get("small_intermediate_size"), config.get("small_rank")
    for key, value in (("small_intermediate_size", n_inner), ("small_rank", rank)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise InputError(f"config.json: {key} must be a whole number above 0; got {value!r}")
    if n_inner is None:
        return
    which = config.get("small_layers")
    if which is None:
        which = list(range(len(layers)))
    if not isinstance(which, list) or not all(type(layer) is int and 0 <= layer < len(layers) for layer in which):
        raise InputError(f"config.json: small_layers must be numbers of the model's {len(layers)} layers; got {which!r:.80}")
    for layer in which:
        small = new(n_inner)
        if rank is not None:
            factor_linears(small, rank)
        layers[layer].small_mlp = small


def factor_linears(ffn: nn.Module, rank: int) -> None:
    """Replaces every linear map of an FFN by a product of two of the given rank; a bias stays with the second."""
    for name, child in list(ffn.named_children()):
        if is_linear(child):
            n_out, n_in = linear_shape(child)
            has_bias = getattr(child, "bias", None) is not None
            setattr(ffn, name, nn.Sequential(nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out, bias=has_bias)))


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear map: torch's, or GPT-2's Conv1D, which holds the transposed matrix."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def linear_shape(module: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear map."""
    n_out, n_in = tuple(matrix_OI(module).shape)
    return n_out, n_in


def matrix_OI(module: nn.Module) -> Tensor:
    """The matrix of a linear map, a row per output: a view, so that writing to it changes the map."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(module, nn.Linear) else weight.T


def linears(ffn: nn.Module) -> tuple[list[str], str]:
    """The names of an FFN's linear maps: those into its neurons, and the one out of them, which is declared last."""
    *into, out = (name for name, child in ffn.named_children() if is_linear(child))
    n_inner = linear_shape(ffn.get_submodule(out))[1]
    assert all(linear_shape(ffn.get_submodule(name))[0] == n_inner for name in into), "an FFN of another plan"
    return into, out
