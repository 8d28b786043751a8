"""A fake big FFN: the small one, padded with noise of the big one's size. Its true effect is zero.

What an oracle gains on such a model it gains by choosing among perturbations. In every layer the first inner units of the big FFN
are those of the small one; the others have weights of the spread of the big one's, and their down projection is scaled so that they
add, to states drawn at random, as much as the big FFN differs from the small one.

Axes: R rows, D hidden, F FFN inner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.duo_llm.module import MODEL_TYPE
from duo_oracle.oracle.base.errors import InputError

_STATES = 512  # drawn to measure sizes
_NAMES = ("gate_proj", "up_proj", "down_proj")


def with_placebo(config: Mapping[str, Any], tensors: Mapping[str, Tensor], seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    """The tensors with every layer's big FFN replaced. Deterministic in `seed`; `scale` multiplies the noise, 0 leaves none.

    Raises InputError for a model of another family, a big FFN no wider than the small one, and a negative scale.
    """
    if config.get("model_type") != MODEL_TYPE:
        raise InputError(f"a fake big FFN is made for models of type {MODEL_TYPE}; got {config.get('model_type')!r}")
    if not 0 <= scale < float("inf"):
        raise InputError(f"the noise is scaled by 0 or more; got {scale}")
    small, big = int(config["small_intermediate_size"]), int(config["intermediate_size"])
    if big <= small:
        raise InputError(f"the big FFN must be wider than the small one to hold its copy; got {big} and {small}")
    generator = torch.Generator().manual_seed(seed)
    replaced = dict(tensors)
    for layer in range(int(config["num_hidden_layers"])):
        place = f"model.layers.{layer}"
        real = {name: tensors[f"{place}.mlp.{name}.weight"].float() for name in _NAMES}
        copy = {name: tensors[f"{place}.small_mlp.{name}.weight"].float() for name in _NAMES}
        states_RD = torch.randn(_STATES, real["gate_proj"].shape[1], generator=generator)
        states_RD = F.rms_norm(states_RD, states_RD.shape[1:]) * tensors[f"{place}.post_attention_layernorm.weight"].float()
        noise = _noise(real, big - small, states_RD, _rms(_ffn(real, states_RD) - _ffn(copy, states_RD)) * scale, generator)
        for name in _NAMES:
            joined = torch.cat([copy[name], noise[name]], dim=1 if name == "down_proj" else 0)
            key = f"{place}.mlp.{name}.weight"
            replaced[key] = joined.to(tensors[key].dtype)
    return replaced


def _noise(real: dict[str, Tensor], width: int, states_RD: Tensor, size: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of `width` inner units as far spread as the real ones, that add values of root mean square `size`."""
    hidden = states_RD.shape[1]
    shapes = {"gate_proj": (width, hidden), "up_proj": (width, hidden), "down_proj": (hidden, width)}
    noise = {name: torch.randn(shape, generator=generator) * real[name].std() for name, shape in shapes.items()}
    noise["down_proj"] *= size / max(_rms(_ffn(noise, states_RD)), 1e-12)
    return noise


def _ffn(weights: dict[str, Tensor], x_RD: Tensor) -> Tensor:
    return (F.silu(x_RD @ weights["gate_proj"].T) * (x_RD @ weights["up_proj"].T)) @ weights["down_proj"].T


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
