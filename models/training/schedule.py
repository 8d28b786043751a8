"""What a training step does, as a function of its number: phase, learning rate, routing. No state, no files.

Axes: B batch, T token, L layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from duo_oracle.models.training.config import TrainConfig, TrainOrder
from duo_oracle.oracle.patterns import Branch

_LEAST_RATE = 0.1
"""The cosine ends at this share of the peak rate."""


@dataclass(frozen=True)
class Phase:
    """A run of steps with one rule: which parameters learn, and how tokens are routed."""

    first_step: int
    n_steps: int
    p_big: float
    only_small: bool

    @property
    def end(self) -> int:
        """The first step that is no longer the phase's."""
        return self.first_step + self.n_steps

    def trains(self, parameter_name: str) -> bool:
        """Whether a parameter learns. While all layers are big the small FFNs get no gradient, and stay as they are."""
        is_small = ".small_mlp." in parameter_name
        return is_small if self.only_small else self.p_big < 1.0 or not is_small


def cosine_rate(step: int, n_steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over a share of the steps, then a cosine that ends at a tenth of the peak with the last step."""
    n_warmup = max(1, round(warmup * n_steps))
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return peak * (_LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))


def phases_of(config: TrainConfig) -> tuple[Phase, ...]:
    """Joint training is one phase; big-then-small is two thirds all-big, then the small FFNs alone.

    The shares are arXiv 2410.10846's: 200 B and 100 B tokens.
    """
    if config.order == TrainOrder.JOINT:
        return (Phase(0, config.n_steps, config.p_big, only_small=False),)
    n_first = min(max(1, round(config.n_steps * 2 / 3)), config.n_steps)
    phases = Phase(0, n_first, 1.0, only_small=False), Phase(n_first, config.n_steps - n_first, config.p_big, only_small=True)
    return tuple(phase for phase in phases if phase.n_steps)


def random_mask(n_batch: int, n_tokens: int, n_letters: int, p_big: float, seed: int, step: int) -> Tensor:
    """mask_BTL, int64: every token and layer big with probability `p_big`, else small; a pure function of (seed, step)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF_FFFF)
    draw_BTL = torch.rand(n_batch, n_tokens, n_letters, generator=generator)
    return torch.where(draw_BTL < p_big, int(Branch.BIG), int(Branch.SMALL))
