"""What the oracle needs of a model, as a Protocol. Implemented in `models/`, which this file does not know.

A token's state runs through the layers one at a time; the caller chooses the branch. Keys and values of the tokens before
it are an argument, so that many candidate states of one position share them. All layers may be routed, or some: a pattern has
a letter for each routed layer, and every token runs the big FFN of the others.

Axes: B batch, T token, G group (rows that share one context), S row of a group, C token of the context, K key/value head,
d head dimension, D hidden, V vocabulary, L routed layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import BranchTable
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import Branch

_Values = TypeVar("_Values", Tensor, np.ndarray)
_LOGITS = 1 << 22  # logits that are held in float64 at once


@runtime_checkable
class OracleModel(Protocol):
    """A frozen model whose FFN branch is chosen per token and layer. No method changes it, none records gradients.

    What every implementation is held to ships as `duo_oracle.models.testing.FamilyContract`.

    >>> from duo_oracle.models.families.toy import random_toy
    >>> toy = random_toy(seed=0, n_letters=3, n_vocabulary=8)
    >>> mask_BTL = torch.full((1, 4, 3), int(Branch.BIG), dtype=torch.uint8)  # four tokens, all BBB
    >>> logits_BTV = toy.forward(torch.tensor([[5, 2, 7, 1]]), mask_BTL, SkipReading.FFN)
    >>> logits_BTV.shape
    torch.Size([1, 4, 8])
    >>> losses_of(logits_BTV[:, :-1], torch.tensor([[2, 7, 1]])).shape  # nats, of every token but the first
    torch.Size([1, 3])
    """

    depth: int
    """How many layers the model has: `layer` is 0 to depth - 1 wherever a method takes one."""
    routed_layers: tuple[int, ...]
    """The layers that a pattern has letters for, ascending."""
    n_letters: int
    """How many letters a pattern has: len(routed_layers)."""
    small_layers: tuple[int, ...]
    """The layers that have a small FFN."""
    n_hidden: int
    n_kv_heads: int
    n_head_dim: int
    n_vocabulary: int
    n_positions: int
    dtype: torch.dtype
    device: torch.device
    unembedding_VD: Tensor
    """Rows w_v of the vocabulary head: the logits of state x are `final_norm(x) @ unembedding_VD.T`, plus the bias, capped."""
    logit_bias_V: Tensor | None
    """What is added to every state's logits."""
    logit_softcap: float | None
    """The bound c of logits that pass through c tanh(logit / c): their losses are exact, and bounded by no tangent."""
    skip_readings: tuple[SkipReading, ...]
    """The readings of skip that have a meaning in this model."""
    ffn_reads_input: bool
    """Whether a layer's FFN also reads what was before the layer, as one beside the attention does."""

    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        """States before layer 0, shape (*token_id.shape, D). `position` (int64) is broadcast against `token_id`."""

    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        """x plus the layer's attention, where row s of group g sees the C context tokens of its group, and itself. Context token c
        stands at position c.

        `position_GS` (int64; each axis may be 1 and is then broadcast) is each row's place in its sequence.
        `hidden_GSC` (bool, broadcastable, or None) is true where a context token must not be seen.
        """

    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        """x plus the layer's attention, where token t of a sequence sees tokens 0..t of the same sequence."""

    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the rows write at this layer, from its input: k_GKSd (with position applied), v_GKSd."""

    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        """The states after the layer by its small or big FFN (never called with SKIP): x, as `attend` gives it, plus the FFN of x.
        Shape (..., D). `before` are the states before the layer, wanted where `ffn_reads_input`."""

    def final_norm(self, x: Tensor) -> Tensor:
        """What the vocabulary head multiplies. Shape (..., D)."""

    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        """logits_BTV of one plain pass in which token t takes the branches mask_BTL[b, t]: the reference for all else."""


@runtime_checkable
class SharesExperts(Protocol):
    """A model whose layers are mixtures, routed over a table of experts: a state's experts are run once, and every branch that
    takes the state weighs what they gave."""

    table: BranchTable
    own_cost: int | None
    """How many experts the model's own router runs on a token, over the routed layers; None where tokens differ."""

    def shares(self, branch: int) -> bool:
        """Whether a branch is one of the table's."""

    def own_trace(self, token_id_T: Tensor) -> tuple[Tensor, Tensor]:
        """The experts that the model's own router gives every token of a plain pass, int64 (T, L, k), rising, -1 where there are
        fewer, and their weights, float32."""

    def own_routes(self, token_id_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """What the model's own router takes in one plain pass: codes uint8 (T, L), 0 where no branch of the table is that set, and
        each token's cost, int64 (T,)."""

    def ffn_branches(self, layer: int, x_SND: Tensor, parents: Mapping[Branch, np.ndarray], before_SND: Tensor) -> Tensor:
        """The states after the layer of each branch's parents, branch after branch (its indices are of axis S). `x_SND` is as
        `attend` gives it, `before_SND` the states before the layer."""


def token_ids_on(device: torch.device, token_ids: np.ndarray) -> Tensor:
    """Token ids of a window as a model takes them: int64, of the same shape, on its device."""
    return torch.from_numpy(token_ids.astype(np.int64)).to(device)


def own_cost_of(model: OracleModel) -> int | None:
    """What a mixture's own router spends on a token, where it is routed over its experts and that is the same for all tokens."""
    return model.own_cost if isinstance(model, SharesExperts) else None


def losses_of(logits: Tensor, target: Tensor) -> Tensor:
    """What a loss is: -ln softmax(logits)[target] in nats, of logits (..., V) of any dtype and int64 targets (...).

    In float64 whatever the logits are: in float32 the log-sum-exp of logits near 20 is rounded to 2e-6 nats, which is more than
    many patterns are apart, and the loss of a token that is all but certain is rounded to none.

    >>> losses_of(torch.tensor([[0.0, 0.0], [20.0, 0.0]]), torch.tensor([1, 0]))
    tensor([6.9315e-01, 2.0612e-09], dtype=torch.float64)
    """
    logits_NV, target_N = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
    loss_N = torch.empty(target_N.shape, dtype=torch.float64, device=logits.device)
    for rows in chunks(len(target_N), max(1, _LOGITS // logits.shape[-1])):
        log_p_NV = logits_NV[rows].double().log_softmax(-1)
        loss_N[rows] = -log_p_NV.gather(1, target_N[rows, None])[:, 0]
    return loss_N.view(target.shape)


def finite(values: _Values, what: str) -> _Values:
    """`values`, every one of them a number. A NaN would pass through a minimum unseen, and hide what it stands beside.

    Raises InputError, which says what they are.

    >>> finite(torch.tensor([1.0, torch.inf]), "a loss")
    Traceback (most recent call last):
    duo_oracle.oracle.base.errors.InputError: a loss is a finite number; under some pattern this model's weights lead to inf or NaN
    """
    if not bool((torch.isfinite(values) if isinstance(values, Tensor) else np.isfinite(values)).all()):
        raise InputError(f"{what} is a finite number; under some pattern this model's weights lead to inf or NaN")
    return values


def check_small(branches: Collection[Branch], routed_layers: Sequence[int], small_layers: Sequence[int]) -> None:
    """Raises InputError where `branches` hold small and a routed layer has no small FFN."""
    lacking = sorted(set(routed_layers) - set(small_layers))
    if Branch.SMALL not in branches or not lacking:
        return
    have = f"only layers {format_layers(small_layers)} have one" if small_layers else "no layer has one"
    raise InputError(
        f"branch s needs a small FFN at every routed layer, and of this model {have}; use branches .B, route those layers "
        "(route-layers), or make small FFNs (duo-oracle duo)"
    )


def check_skip(skip: SkipReading, model: OracleModel) -> None:
    """Raises InputError for a reading of skip that has no meaning in the model."""
    if skip not in model.skip_readings:
        have = " or ".join(model.skip_readings)
        raise InputError(f"skip must be {have} for this model, whose layers' FFNs cannot be left out alone; got {skip}")


def cheapest_branch(model: OracleModel) -> Branch:
    """What all-big is compared with: the cheapest of a table of experts; else small where all routed layers have it, or skip."""
    if isinstance(model, SharesExperts):
        return model.table.cheapest
    return Branch.SMALL if set(model.routed_layers) <= set(model.small_layers) else Branch.SKIP
