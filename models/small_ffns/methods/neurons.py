"""The big FFN's most active neurons, as they are: least work, no training.

A neuron counts by what it adds to the residual stream of the all-big model: the root mean square of its activation times the
norm of its column in the output projection. The root mean square matters: the mean of magnitudes overlooks neurons that fire
rarely and strongly.

Axes: N tokens of a batch, F neurons, O outputs, I inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.models.hf.small_ffn import kept_rows, linear_shape, linears, matrix_OI
from duo_oracle.models.small_ffns.method import SmallTask, hear_inputs, n_inner

TOKENS = 4096


def sizes(module: PretrainedModule, ratio: float) -> dict[str, int]:
    return {"small_intermediate_size": max(1, round(ratio * n_inner(module)))}


def make(task: SmallTask) -> dict[str, Any]:
    importance = neuron_importance(task)
    n_kept = sizes(task.module, task.config.ratio)["small_intermediate_size"]
    for layer, importance_F in importance.items():
        keep_F = torch.argsort(importance_F, descending=True, stable=True)[:n_kept].sort().values
        copy_neurons(task.module.big_ffn(layer), task.small_ffn(layer), keep_F)
    return {}


def neuron_importance(task: SmallTask) -> dict[int, Tensor]:
    """importance_F of each layer of the task, float64."""
    outs = {}
    for layer in task.layers:
        ffn = task.module.big_ffn(layer)
        outs[layer] = ffn.get_submodule(linears(ffn)[1])
    power = {layer: torch.zeros(1, dtype=torch.float64) for layer in outs}

    def hear(layer: int, active_NF: Tensor) -> None:
        power[layer] = power[layer].to(active_NF.device) + active_NF.double().square().sum(dim=0)

    hear_inputs(task, outs, hear)
    return {layer: power[layer].sqrt() * matrix_OI(out).double().norm(dim=0) for layer, out in outs.items()}


@torch.no_grad()
def copy_neurons(big: nn.Module, small: nn.Module, keep_F: Tensor) -> None:
    """Makes `small` the neurons `keep_F` of `big`, with its biases."""
    into, out = linears(big)
    n_neurons = linear_shape(big.get_submodule(out))[1]
    for name in (*into, out):
        ours, theirs = small.get_submodule(name), big.get_submodule(name)
        rows = kept_rows(linear_shape(theirs)[0], n_neurons, keep_F)
        matrix_OI(ours).copy_(matrix_OI(theirs)[:, keep_F] if name == out else matrix_OI(theirs)[rows])
        if theirs.bias is not None:
            assert isinstance(theirs.bias, Tensor)
            assert isinstance(ours.bias, Tensor)
            ours.bias.copy_(theirs.bias if name == out else theirs.bias[rows])
