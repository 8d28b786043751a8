"""The contract of a model's plain form: one layer at a time, differentiable, routed by an argument.

What routers are trained and run on, and the forward pass that all faster ways are compared with. A family's module implements the
parts of a layer; how a token's branch decides what is added is here, once. Knows no family, no search and no files.

Axes: B batch, T token, L routed layer, D hidden, V vocabulary, N tokens of the batch in one row (B x T).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.oracle.branches import DUO
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

Routing = Tensor | Callable[[int, Tensor], Tensor]
"""`mask_BTL` (any integer dtype), or a function (letter, normed FFN input x_BTD) -> branch_BT. The letter is the place in a
pattern: 0 for the first routed layer."""


class RoutableModule(nn.Module, ABC):
    """A causal language model whose layers have a big FFN, some or all of them a small one too, behind one attention."""

    depth: int
    n_hidden: int
    n_vocabulary: int
    n_positions: int

    @property
    def routed_layers(self) -> tuple[int, ...]:
        """The layers that a pattern has letters for, ascending; the others are always big."""
        return tuple(range(self.depth))

    @property
    def n_letters(self) -> int:
        """How many letters a pattern has."""
        return len(self.routed_layers)

    @property
    @abstractmethod
    def small_layers(self) -> tuple[int, ...]:
        """The layers that have a small FFN."""

    @property
    @abstractmethod
    def unembedding_VD(self) -> Tensor:
        """Rows of the vocabulary head."""

    @abstractmethod
    def embed(self, token_id_BT: Tensor) -> Tensor:
        """States before layer 0, x_BTD, of tokens at positions 0 to T - 1."""

    @abstractmethod
    def attend(self, layer: int, x_BTD: Tensor) -> Tensor:
        """x plus the layer's causal attention."""

    @abstractmethod
    def ffn_input(self, layer: int, attended: Tensor, before: Tensor) -> Tensor:
        """What the layer's FFNs read, (..., D): the norm of the attended states, or of those `before` the layer where its FFN
        stands beside the attention."""

    @abstractmethod
    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        """What the layer's small or big FFN adds (never called with SKIP). Shape (..., D)."""

    @abstractmethod
    def final_norm(self, x: Tensor) -> Tensor:
        """What the vocabulary head multiplies. Shape (..., D)."""

    def forward(self, token_id_BT: Tensor, routing: Routing, skip: SkipReading = SkipReading.FFN) -> Tensor:
        """logits_BTV, where token t of sequence b takes the branches that `routing` gives it.

        `skip` says what branch 0 means: `ffn`, attention runs and the FFN adds nothing; `layer`, the residual stream
        passes unchanged. Under both, the layer's keys and values are written from the token's input.
        """
        return self.logits(run_trunk(self, token_id_BT, routing, skip))

    def logits(self, x: Tensor) -> Tensor:
        """The vocabulary's logits of states (..., D) after the last layer."""
        return F.linear(self.final_norm(x), self.unembedding_VD)


class SomeLayers(RoutableModule):
    """A module of which only some layers are routed."""

    def __init__(self, module: RoutableModule, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self._layers = module, layers
        self.depth, self.n_hidden = module.depth, module.n_hidden
        self.n_vocabulary, self.n_positions = module.n_vocabulary, module.n_positions

    @property
    def routed_layers(self) -> tuple[int, ...]:
        return self._layers

    @property
    def small_layers(self) -> tuple[int, ...]:
        return self.module.small_layers

    @property
    def unembedding_VD(self) -> Tensor:
        return self.module.unembedding_VD

    def embed(self, token_id_BT: Tensor) -> Tensor:
        return self.module.embed(token_id_BT)

    def attend(self, layer: int, x_BTD: Tensor) -> Tensor:
        return self.module.attend(layer, x_BTD)

    def ffn_input(self, layer: int, attended: Tensor, before: Tensor) -> Tensor:
        return self.module.ffn_input(layer, attended, before)

    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        return self.module.ffn(layer, branch, normed)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.module.final_norm(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.module.logits(x)


def run_trunk(module: RoutableModule, token_id_BT: Tensor, routing: Routing, skip: SkipReading = SkipReading.FFN) -> Tensor:
    """x_BTD after the last layer, before the final norm; as `RoutableModule.forward`, for what needs no logits."""
    x_BTD = module.embed(token_id_BT)
    letters = letters_of(module)
    for layer in range(module.depth):
        attended_BTD = module.attend(layer, x_BTD)
        normed_BTD = module.ffn_input(layer, attended_BTD, x_BTD)
        letter = letters.get(layer)
        if letter is None:
            x_BTD = attended_BTD + module.ffn(layer, Branch.BIG, normed_BTD)
            continue
        branch_BT = routing[:, :, letter] if isinstance(routing, Tensor) else routing(letter, normed_BTD)
        out_BTD = attended_BTD + _routed_ffn(module, layer, normed_BTD, branch_BT)
        if skip is SkipReading.LAYER:
            out_BTD = torch.where((branch_BT == Branch.SKIP).unsqueeze(-1), x_BTD, out_BTD)
        x_BTD = out_BTD
    return x_BTD


def letters_of(module: RoutableModule) -> dict[int, int]:
    """The place in a pattern of each routed layer."""
    return {layer: letter for letter, layer in enumerate(module.routed_layers)}


def _routed_ffn(module: RoutableModule, layer: int, x_BTD: Tensor, branch_BT: Tensor) -> Tensor:
    """What the FFNs add: each token through its own branch, a skipped token nothing.

    Tokens are sorted by branch with one permutation and one index_select each way: the backward pass of
    boolean-mask indexing is several times slower.
    """
    x_ND, branch_N = x_BTD.flatten(0, 1), branch_BT.flatten().long()
    n_skip, n_small, n_big = torch.bincount(branch_N, minlength=len(DUO.branches)).tolist()
    if n_big == len(branch_N):
        return module.ffn(layer, Branch.BIG, x_BTD)
    if n_small == len(branch_N):
        return module.ffn(layer, Branch.SMALL, x_BTD)
    order_N = torch.argsort(branch_N, stable=True)
    skipped, small, big = x_ND.index_select(0, order_N).split((n_skip, n_small, n_big))
    parts = [torch.zeros_like(skipped)]
    for branch, part in ((Branch.SMALL, small), (Branch.BIG, big)):
        parts.append(module.ffn(layer, branch, part) if len(part) else part)
    return torch.cat(parts).index_select(0, torch.argsort(order_N)).view_as(x_BTD)
