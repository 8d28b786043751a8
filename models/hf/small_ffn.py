"""Small FFNs beside the big ones of a pretrained model: where they hang, and their form.

config.json says what there is: `small_intermediate_size` (neurons of each), `small_rank` (each matrix is a product of two of this
rank), `small_layers` (the layers that have one; default all). A small FFN is the big one's own code with narrower linear maps;
where the FFN is several children of its layer, a dictionary of theirs. Knows no family and no way to make their weights.

Axes: O outputs, I inputs of a linear map, F neurons.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.oracle.base.errors import InputError


def attach_small(layers: nn.ModuleList, new: Callable[[int, int], nn.Module], config: Mapping[str, Any]) -> None:
    """Gives the layers that config.json names a small FFN, `small_mlp`, made by `new(layer, neurons)`.

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
        small = new(layer, n_inner)
        if rank is not None:
            factor_linears(small, rank)
        layers[layer].small_mlp = small


def resized(ffn: nn.Module, n_inner: int) -> nn.Module:
    """An FFN of the same code with `n_inner` neurons, its linear maps new and without values, all else shared. Raises InputError
    for an FFN that is not made of linear maps alone."""
    into, out = linears(ffn)
    n_neurons = linear_shape(ffn.get_submodule(out))[1]
    small = copy.copy(ffn)
    small._modules = dict(ffn._modules)
    for name in (*into, out):
        big = ffn.get_submodule(name)
        n_out, n_in = linear_shape(big)
        n_out, n_in = (n_out, n_inner) if name == out else (n_out // n_neurons * n_inner, n_in)
        has_bias = getattr(big, "bias", None) is not None
        small._modules[name] = nn.Linear(n_in, n_out, bias=has_bias) if isinstance(big, nn.Linear) else type(big)(n_out, n_in)
    return small


def factor_linears(ffn: nn.Module, rank: int) -> None:
    """Replaces every linear map of an FFN by a product of two of the given rank; a bias stays with the second."""
    for name, child in list(ffn.named_children()):
        if is_linear(child):
            n_out, n_in = linear_shape(child)
            has_bias = getattr(child, "bias", None) is not None
            first, second = nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out, bias=has_bias)
            ffn._modules[name] = nn.Sequential(first, second)


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
    """The names of an FFN's linear maps: those into its neurons (one may hold gate and up, one upon the other), and the one out of
    them, which is declared last. Raises InputError for an FFN of another plan, such as a mixture of experts."""
    names = [name for name, child in ffn.named_children() if is_linear(child)]
    others = {name for name, child in ffn.named_children() if name not in names and any(p.dim() > 1 for p in child.parameters())}
    if len(names) < 2 or others or list(ffn.parameters(recurse=False)):
        raise InputError(f"small FFNs are made of FFNs of two or three linear maps; this model has {type(ffn).__name__}")
    *into, out = names
    n_neurons = linear_shape(ffn.get_submodule(out))[1]
    rows = {linear_shape(ffn.get_submodule(name))[0] for name in into}
    if not rows <= {n_neurons, 2 * n_neurons}:
        raise InputError(f"small FFNs are made of FFNs whose maps have as many neurons; {type(ffn).__name__} has {sorted(rows)}")
    return into, out


def kept_rows(n_out: int, n_neurons: int, keep_F: Tensor) -> Tensor:
    """The rows of a map into `n_neurons` neurons that belong to those kept: twice as many where it holds gate and up."""
    return torch.cat([keep_F + start for start in range(0, n_out, n_neurons)])
