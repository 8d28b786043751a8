"""Text that a routed model writes, token by token: what follows each token, and which branches the router gave it.

Plain passes over the whole window, so that any causal router runs as it does in one pass. Knows no router and no files.

Axes: T token, L layer, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, TokenBatch
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern


@dataclass(frozen=True)
class Step:
    """One token that was written: the token, its probability, and the pattern of the token before it, which predicted it."""

    token_id: int
    probability: float
    pattern: str


def written(
    module: RoutableModule,
    router: Router,
    skip: SkipReading,
    token_ids: Sequence[int],
    n_most: int,
    temperature: float = 0.0,
    seed: int = 0,
    window: int = 0,
) -> Iterator[Step]:
    """What the model writes behind `token_ids`, at most `n_most` tokens, while it is asked for more.

    At temperature 0 each token is the likeliest, the first of equals; else it is drawn, by `seed`, from the distribution at that
    temperature. `probability` is always that of temperature 1. The oldest tokens of a prompt that leaves no room are not read.
    `window` is the index of the sequence, by which a router draws that draws.

    Raises InputError for a router that is not causal, an empty prompt, a negative temperature, and more tokens than fit.
    """
    if not router.causal:
        raise InputError(f"text is written from left to right, and router {router.spec} chooses by what comes later")
    if not token_ids:
        raise InputError("`prompt` must hold at least one token, which the first is predicted from")
    if not math.isfinite(temperature) or temperature < 0:
        raise InputError(f"`temperature` must be at least 0; got {temperature}")
    if not 1 <= n_most < module.n_positions:
        raise InputError(f"`tokens` must be 1 to {module.n_positions - 1}, within the model's positions; got {n_most}")
    held = list(token_ids)[-(module.n_positions - n_most) :]
    generator = torch.Generator().manual_seed(seed)

    def steps() -> Iterator[Step]:  # apart, so that what is wrong is said before the first is asked for
        for _ in range(n_most):
            logits_V, pattern = _last(module, router, skip, held, window)
            if temperature == 0:
                following = int(logits_V.argmax())
            else:
                following = int(torch.multinomial((logits_V / temperature).softmax(-1), 1, generator=generator))
            yield Step(following, float(logits_V.softmax(-1)[following]), pattern)
            held.append(following)

    return steps()


@torch.no_grad()
def _last(module: RoutableModule, router: Router, skip: SkipReading, token_ids: Sequence[int], window: int) -> tuple[Tensor, str]:
    """The last token's logits_V in float64, and its pattern."""
    token_id_1T = torch.tensor([list(token_ids)])
    choose = router.routing(TokenBatch(token_id_1T, (window,)), module.n_letters)
    taken: list[int] = []

    def recorded(letter: int, x_1TD: Tensor) -> Tensor:
        branch_1T = choose(letter, x_1TD)
        taken.append(int(branch_1T[0, -1]))
        return branch_1T

    logits_V = module(token_id_1T, recorded, skip)[0, -1].double()
    if not bool(torch.isfinite(logits_V).any()):
        raise InputError("the model's logits are not finite; nothing can be drawn from them")
    return logits_V, str(RoutingPattern(tuple(Branch(branch) for branch in np.array(taken))))
