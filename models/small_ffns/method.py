"""The contract of a way to make small FFNs of a pretrained model's big ones: a file in `models/small_methods/` each.

Here too is what ways share: the text that they see, and what a big FFN's maps read on it. Knows no way by name.

Axes: B batch, T token, L layer, N tokens of a batch, I inputs of a linear map.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.models.hf.small_ffn import linear_shape, linears
from duo_oracle.models.routable import run_trunk
from duo_oracle.models.small_ffns.config import DuoConfig
from duo_oracle.models.training.batches import Windows
from duo_oracle.oracle.base.choices import check_choice, names_in
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.patterns import Branch

_PACKAGE = "duo_oracle.models.small_ffns.methods"
K = TypeVar("K")


@dataclass(frozen=True)
class SmallTask:
    """What a way to make small FFNs is given: the frozen model, whose `layers` have a `small_mlp` without values, and the text."""

    module: PretrainedModule
    layers: tuple[int, ...]
    windows: Windows
    n_steps: int
    """Batches of the text to use."""
    config: DuoConfig
    out: Path
    """The directory that is made: checkpoints of a long run lie in its `progress`."""

    def token_id_BT(self, step: int) -> Tensor:
        """The step's windows."""
        return self.windows.token_id_BT(step, self.module.unembedding_VD.device)[:, :-1]

    def small_ffn(self, layer: int) -> nn.Module:
        return cast(nn.Module, self.module.layers[layer].small_mlp)


class SmallMethod(Protocol):
    """What each file in `models/small_methods/` offers."""

    TOKENS: int
    """How many tokens of the text it uses where nothing else is said."""

    def sizes(self, module: PretrainedModule, ratio: float) -> dict[str, int]:
        """The keys of config.json that give the small FFNs their form: `small_intermediate_size`, perhaps `small_rank`."""

    def make(self, task: SmallTask) -> dict[str, Any]:
        """Gives every parameter of the small FFNs its value. Returns what `evaluation.json` should say of it."""


def method_names() -> tuple[str, ...]:
    """The ways there are, by listing the folder."""
    return names_in(_PACKAGE)


def load_method(name: str) -> SmallMethod:
    """The way of that name. Raises InputError, listing the ways, for an unknown one."""
    check_choice("method", name, method_names())
    return cast(SmallMethod, importlib.import_module(f"{_PACKAGE}.{name}"))


def n_inner(module: PretrainedModule) -> int:
    """Neurons of the model's big FFNs."""
    ffn = module.big_ffn(0)
    return linear_shape(ffn.get_submodule(linears(ffn)[1]))[1]


@torch.no_grad()
def hear_inputs(task: SmallTask, maps: Mapping[K, nn.Module], hear: Callable[[K, Tensor], None]) -> None:
    """Runs the text through the all-big model, and gives `hear` what each of `maps` reads, x_NI, batch by batch."""
    hooks = [
        each.register_forward_pre_hook(lambda _, inputs, key=key: hear(key, inputs[0].flatten(0, -2))) for key, each in maps.items()
    ]
    try:
        for step in progress(range(task.n_steps), desc="listening", unit="batch"):
            token_id_BT = task.token_id_BT(step)
            run_trunk(task.module, token_id_BT, torch.full((*token_id_BT.shape, task.module.n_letters), int(Branch.BIG)))
    finally:
        for hook in hooks:
            hook.remove()
