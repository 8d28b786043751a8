"""Random routing under an exact budget: `random:4` gives every token four big layers, drawn anew for each. The honest baseline.

`random:BUDGET+SKIPS@SEED`: SKIPS layers are skipped, the rest is small (default 0); a fraction is drawn per token, so that
`random:4.3` has four or five big layers, 4.3 on average.

Axes: B batch, T token, L layer, D hidden.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.router import Choose, Router, TokenBatch
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import whole
from duo_oracle.oracle.patterns import Branch

_FORM = re.compile(r"(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?(?:@(\d+))?")


class Random(Router):
    """Each token's pattern is uniform over those of its number of B's and skips: a function of (seed, sequence, position)."""

    name = "random"

    def __init__(self, budget: float, skips: float = 0.0, seed: int = 0) -> None:
        self.budget: float = float(budget)
        self.skips, self.seed = float(skips), seed
        self.spec = f"random:{budget:g}" + (f"+{skips:g}" if skips else "") + (f"@{seed}" if seed else "")
        # Whether any layer is left for small is known with the model; it is among the branches either way.
        self.branches = (Branch.SKIP, Branch.SMALL, Branch.BIG) if skips else (Branch.SMALL, Branch.BIG)

    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        n_tokens = tokens.token_id_BT.shape[1]
        draws = [self.draw(sequence, tokens.start + n_tokens, n_letters)[tokens.start :] for sequence in tokens.sequence_B]
        mask_BTL = torch.from_numpy(np.stack(draws))

        def choose(layer: int, x_BTD: Tensor) -> Tensor:
            return mask_BTL[:, :, layer].to(x_BTD.device)

        return choose

    def draw(self, sequence: int, n_tokens: int, n_letters: int) -> np.ndarray:
        """mask_TL of a sequence's first tokens. Raises InputError for a budget that the layers do not hold."""
        if self.budget + self.skips > n_letters:
            raise InputError(f"{self.spec}: BUDGET + SKIPS must not exceed the model's {n_letters} layers")
        # One row of draws per token, in order: a prefix is drawn alike whatever follows it.
        draw_TC = np.random.Generator(np.random.Philox(key=[self.seed, sequence])).random((n_tokens, n_letters + 1))
        rank_TL = np.argsort(np.argsort(draw_TC[:, :n_letters], axis=1), axis=1)
        share_T1 = draw_TC[:, n_letters:]
        n_big_T1 = np.floor(self.budget + share_T1)
        # The same draw rounds the sum, so that a token never has more branches than layers.
        n_used_T1 = np.floor(self.budget + self.skips + share_T1)
        mask_TL = np.where(rank_TL < n_used_T1, int(Branch.SKIP), int(Branch.SMALL))
        return np.where(rank_TL < n_big_T1, int(Branch.BIG), mask_TL)


def parse(argument: str) -> Random:
    """`random:BUDGET+SKIPS@SEED`. Raises InputError for another form."""
    form = _FORM.fullmatch(argument)
    seed = whole(form[3] or "0") if form else None
    if form is None or seed is None:
        raise InputError(f"a random router is random:BUDGET, random:BUDGET+SKIPS or random:BUDGET@SEED; got random:{argument}")
    return Random(float(form[1]), float(form[2] or 0), seed)
