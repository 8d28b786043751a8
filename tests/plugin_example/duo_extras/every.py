"""Every k-th token takes the big FFN everywhere, the others the small one: `every:3`."""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.models.router import Choose, Router, TokenBatch
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch


class Every(Router):
    name = "every"
    branches = (Branch.SMALL, Branch.BIG)

    def __init__(self, k: int) -> None:
        self.k, self.spec = k, f"every:{k}"

    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        n_batch, n_tokens = tokens.token_id_BT.shape
        big_T = (torch.arange(n_tokens) + tokens.start) % self.k == 0
        branch_BT = torch.where(big_T, int(Branch.BIG), int(Branch.SMALL)).expand(n_batch, n_tokens)

        def choose(layer: int, x_BTD: Tensor) -> Tensor:
            return branch_BT.to(x_BTD.device)

        return choose


def parse(argument: str) -> Every:
    if not argument.isdigit() or int(argument) < 1:
        raise InputError(f"a router every:K takes a whole number of at least 1; got {argument!r}")
    return Every(int(argument))
