"""The big FFN's most active neurons, then trained to say what the big FFN says on the residual stream that they will see.

That stream is the model's under random routing: at every layer with a small FFN each token takes small or big with probability one
half, drawn by step. First the output projections are fitted by least squares, drawn towards the big FFN's own columns; then all
weights learn. Each layer's loss is its own: the mean squared error against the big FFN's output, over that output's mean square. No
gradient passes through the model, so a step costs little more than a forward pass.

Axes: B batch, T token, L layer, D hidden, F the small FFN's neurons, N tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.models.hf.small_ffn import linears, matrix_OI
from duo_oracle.models.small_ffns.method import SmallTask
from duo_oracle.models.small_ffns.methods import neurons
from duo_oracle.models.training.config import steps_for
from duo_oracle.models.training.loop import PROGRESS, Stretch, Training
from duo_oracle.models.training.progress import read_progress
from duo_oracle.models.training.schedule import random_mask
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.patterns import Branch

TOKENS = 60_000
FITTED_TOKENS = 8192
_RIDGE = 1e-3
"""Of the mean square of a neuron's activation."""


def sizes(module: PretrainedModule, ratio: float) -> dict[str, int]:
    return neurons.sizes(module, ratio)


def make(task: SmallTask) -> dict[str, Any]:
    """Raises InputError for a loss that is not finite, and for a directory that holds training with other options."""
    config, n_tokens = task.config, task.windows.n_tokens
    progress = read_progress(task.out / PROGRESS, config)
    smalls = nn.ModuleDict({str(layer): task.small_ffn(layer) for layer in task.layers})
    if progress is None:
        heard, fitted = (
            replace(task, n_steps=min(steps_for(tokens, n_tokens), task.n_steps)) for tokens in (neurons.TOKENS, FITTED_TOKENS)
        )
        neurons.make(heard)
        fit_output_projections(fitted)
    smalls.requires_grad_(True)
    optimizer = torch.optim.AdamW(smalls.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    def gradients(step: int) -> Tensor:
        loss_L = local_losses(task, step)
        loss_L.sum().backward()
        return loss_L.detach().mean()

    training = Training("distil", smalls, config, task.out, task.n_steps, n_tokens)
    history = training.learn([Stretch(range(task.n_steps), optimizer, gradients)], progress)
    smalls.requires_grad_(False)
    return {
        "steps": task.n_steps,
        "learning_rate": config.learning_rate,
        "first_loss": round(history[0].loss, 5),
        "last_loss": round(history[-1].loss, 5),
    }


def local_losses(task: SmallTask, step: int) -> Tensor:
    """loss_L of the task's layers on the step's windows and routing."""
    losses: list[Tensor] = []

    def compare(layer: int, normed_BTD: Tensor, big_BTD: Tensor) -> Tensor:
        small_BTD = task.module.ffn(layer, Branch.SMALL, normed_BTD)
        losses.append((small_BTD - big_BTD).square().mean() / big_BTD.square().mean())
        return small_BTD.detach()

    _routed_at_random(task, step, compare)
    return torch.stack(losses)


@torch.no_grad()
def fit_output_projections(task: SmallTask) -> None:
    """Gives every small FFN the output projection of least squared error against the big one's output, a ridge drawing it to the
    big FFN's own columns."""
    outs = {layer: task.small_ffn(layer).get_submodule(linears(task.small_ffn(layer))[1]) for layer in task.layers}
    active: dict[int, Tensor] = {}
    hooks = [
        out.register_forward_pre_hook(lambda _, inputs, layer=layer: active.update({layer: inputs[0].flatten(0, -2)}))
        for layer, out in outs.items()
    ]
    gram_FF = {layer: torch.zeros(1, dtype=torch.float64) for layer in outs}
    cross_FD = {layer: torch.zeros(1, dtype=torch.float64) for layer in outs}

    def listen(layer: int, normed_BTD: Tensor, big_BTD: Tensor) -> Tensor:
        small_BTD = task.module.ffn(layer, Branch.SMALL, normed_BTD)
        wanted_ND, active_NF = big_BTD.flatten(0, 1), active[layer]
        bias = outs[layer].bias
        if isinstance(bias, Tensor):
            wanted_ND = wanted_ND - bias
        gram_FF[layer] = gram_FF[layer].to(active_NF.device) + (active_NF.T @ active_NF).double()
        cross_FD[layer] = cross_FD[layer].to(active_NF.device) + (active_NF.T @ wanted_ND).double()
        return small_BTD

    try:
        for step in progress(range(task.n_steps), desc="fitting", unit="batch"):
            _routed_at_random(task, step, listen)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, out in outs.items():
        own_FD, gram = matrix_OI(out).double().T, gram_FF[layer]
        ridge = _RIDGE * gram.diagonal().mean()
        eye_FF = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
        solved_FD = torch.linalg.solve(gram + ridge * eye_FF, cross_FD[layer] + ridge * own_FD)
        matrix_OI(out).copy_(solved_FD.T)


def _routed_at_random(task: SmallTask, step: int, at_layer: Callable[[int, Tensor, Tensor], Tensor]) -> None:
    """Runs the step's windows up to the last layer with a small FFN. At each of them `at_layer` takes the layer, the normed FFN
    input and the big FFN's output, and returns the small one's; each token goes on with one of the two."""
    module, token_id_BT = task.module, task.token_id_BT(step)
    n_batch, n_tokens = token_id_BT.shape
    mask_BTL = random_mask(n_batch, n_tokens, len(task.layers), 0.5, task.config.seed, step).to(token_id_BT.device)
    with torch.no_grad():
        x_BTD = module.embed(token_id_BT)
    for layer in range(task.layers[-1] + 1):
        with torch.no_grad():
            attended_BTD = module.attend(layer, x_BTD)
            normed_BTD = module.ffn_input(layer, attended_BTD, x_BTD)
            out_BTD = module.ffn(layer, Branch.BIG, normed_BTD)
        if layer in task.layers:
            is_small_BT1 = mask_BTL[:, :, task.layers.index(layer), None] == Branch.SMALL
            out_BTD = torch.where(is_small_BT1, at_layer(layer, normed_BTD, out_BTD), out_BTD)
        x_BTD = attended_BTD + out_BTD
