"""A mixture of experts whose routed layers run what a table of experts says: a state's experts once, weighed branch by branch.

Outputs are linear in the experts' weights, so the experts of a state are run once, and every branch weighs what they gave. How a
layer's experts are ordered, run and weighed is a subclass's.

Axes: S states of a level, N positions, R rows (states of any positions), D hidden, E experts, M experts of a row by rank (or those
that a table of sets lists), K of them that run, T token, L routed layer, k experts of a token's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.frozen import block_rows
from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, BranchTable, Gate, TableKind
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.model import OracleModel

NO_EXPERT = -1
"""Stands in a list of experts where there are fewer."""

Given = tuple[Tensor, Tensor, Tensor]
"""What each expert that the table asks for gives every state, unweighed out_MSND; their weights (S, N, M), were all experts to run,
and the sum of all experts' (S, N, 1)."""


class OverTable(SomeLayersRouted, ABC):
    """Implements `oracle.model.SharesExperts`."""

    def __init__(self, model: OracleModel, table: BranchTable, layers: tuple[int, ...], own_cost: int | None) -> None:
        super().__init__(model, layers)
        self.table, self.own_cost = table, own_cost
        self._renormalised = table.gate == Gate.RENORMALISED

    @abstractmethod
    def own_trace(self, token_id_T: Tensor) -> tuple[Tensor, Tensor]:
        """The experts that the model's own router gives every token of a plain pass: int64 (T, L, k), rising, NO_EXPERT last; and
        their weights, float32, 0 where there is none."""

    def own_experts(self, token_id_T: Tensor) -> Tensor:
        """The experts of `own_trace`."""
        return self.own_trace(token_id_T)[0]

    @property
    @abstractmethod
    def _weighs_own_alike(self) -> bool:
        """Whether a branch that is the router's own set weighs it as the router does."""

    @abstractmethod
    def _experts_of(self, layer: int, x_SND: Tensor, before_SND: Tensor) -> Given: ...

    @abstractmethod
    def _of_set(self, layer: int, weight_RM: Tensor, total_R1: Tensor, members: list[int]) -> Tensor:
        """The weights of the columns `members` when they alone run: (R, K)."""

    @abstractmethod
    def _finished(self, layer: int, x_SND: Tensor, before_SND: Tensor, experts_RD: Tensor) -> Tensor:
        """The states after the layer whose routed experts give that."""

    def shares(self, branch: int) -> bool:
        return branch > Branch.BIG

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        if not self.shares(branch):
            return self._model.ffn(layer, branch, x, before)
        x_R1D = x.reshape(-1, 1, self.n_hidden)
        before_R1D = x_R1D if before is None else before.reshape(x_R1D.shape)
        return self.ffn_branches(layer, x_R1D, {branch: np.arange(len(x_R1D))}, before_R1D).view(x.shape)

    @torch.no_grad()
    def ffn_branches(self, layer: int, x_SND: Tensor, parents: Mapping[Branch, np.ndarray], before_SND: Tensor) -> Tensor:
        n_states = len(x_SND)
        per_state = max(1, x_SND[0].numel() // self.n_hidden)
        first, total = {}, 0
        for branch, parent_S in parents.items():
            first[branch], total = total, total + len(parent_S)
        out_SND = x_SND.new_empty((total, *x_SND.shape[1:]))
        for states in chunks(n_states, max(1, block_rows(self.device) // per_state)):
            x_sND, before_sND = x_SND[states], before_SND[states]
            given = self._experts_of(layer, x_sND, before_sND)
            for branch, parent_S in parents.items():
                start, stop = np.searchsorted(parent_S, (states.start, min(states.stop, n_states)))
                if start == stop:
                    continue
                here = torch.from_numpy(parent_S[start:stop] - states.start).to(x_SND.device)
                rows = slice(first[branch] + int(start), first[branch] + int(stop))
                x_cND, before_cND = x_sND[here], before_sND[here]
                if self.shares(branch):
                    out_SND[rows] = self._finished(layer, x_cND, before_cND, self._weighed(layer, branch, given, here))
                else:
                    out_SND[rows] = self._model.ffn(layer, branch, x_cND, before_cND)
        return out_SND

    def _members(self, branch: int) -> list[int]:
        """The columns of M that a branch runs."""
        chosen = self.table.chosen(branch)
        return [self.table.experts.index(expert) for expert in chosen] if self.table.kind is TableKind.SETS else list(chosen)

    def _weighed(self, layer: int, branch: int, given: Given, here: Tensor) -> Tensor:
        """What a branch's experts give together to the states `here`, (R, D)."""
        out_MSND, weight_SNM, total_SN1 = given
        members = self._members(branch)
        out_KRD = out_MSND[members][:, here].flatten(1, -2)
        weight_RM, total_R1 = weight_SNM[here].flatten(0, -2), total_SN1[here].flatten(0, -2)
        weight_RK = self._of_set(layer, weight_RM, total_R1, members)
        sum_RD = out_KRD.new_zeros(out_KRD.shape[1:])
        for slot, out_RD in enumerate(out_KRD):
            sum_RD = sum_RD + out_RD * weight_RK[:, slot, None]
        return sum_RD.to(out_MSND.dtype)

    def own_routes(self, token_id_T: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """What the model's own router takes in one plain pass, as the table says it: codes uint8 (T, L), 0 where no branch of the
        table is that set, weighed as the router does; and what every token spends, int64 (T,)."""
        own_TLk = self.own_experts(token_id_T).cpu().numpy()
        n_TL = (own_TLk != NO_EXPERT).sum(axis=2)
        codes_TL = np.zeros(n_TL.shape, dtype=np.uint8)
        for branch in self.table.branches if self._weighs_own_alike else ():
            chosen = self.table.chosen(branch)
            if self.table.kind is TableKind.SETS:
                wanted_k = np.full(max(own_TLk.shape[2], len(chosen)), NO_EXPERT)
                wanted_k[: len(chosen)] = chosen
                padded_TLk = np.pad(own_TLk, ((0, 0), (0, 0), (0, len(wanted_k) - own_TLk.shape[2])), constant_values=NO_EXPERT)
                codes_TL[(padded_TLk == wanted_k).all(axis=2)] = branch
            elif chosen == tuple(range(len(chosen))):  # the best so many, as the router itself takes
                codes_TL[n_TL == len(chosen)] = branch
        return codes_TL, n_TL.sum(axis=1)


def shared_out(weight_RK: Tensor) -> Tensor:
    """The weights of sets, each divided by its set's sum: (R, K)."""
    return weight_RK / weight_RK.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weight_RK.dtype).tiny)


def routed_over(table: BranchTable, n_experts: Mapping[int, int], layers: tuple[int, ...] | None, kind: str) -> tuple[int, ...]:
    """The layers that are routed over the table, by default all with experts (`n_experts` by layer). Raises InputError for layers
    without experts, a model without, and a table that names more experts than there are."""
    if not n_experts:
        raise InputError(f"branches {table.spec} are of mixtures of experts; no layer of this {kind} model has experts")
    lacking = sorted(set(layers or ()) - set(n_experts))
    if lacking:
        raise InputError(
            f"branches {table.spec} need experts at every routed layer; of this {kind} model layers "
            f"{format_layers(sorted(n_experts))} have some, and layer {lacking[0]} has none (route-layers)"
        )
    routed = tuple(n_experts) if layers is None else layers
    for layer in routed:
        _check_table(table, n_experts[layer], layer)
    return routed


def _check_table(table: BranchTable, n_experts: int, layer: int) -> None:
    """Raises InputError for a table that names ranks or experts which a layer does not have."""
    if table.kind is TableKind.SETS:
        if table.experts and table.experts[-1] >= n_experts:
            raise InputError(
                f"branches {table.spec} name expert {table.experts[-1]}; layer {layer} has {n_experts} experts, 0 to "
                f"{n_experts - 1}"
            )
    elif table.n_ranks > n_experts:
        raise InputError(f"branches {table.spec} name the {table.n_ranks} best experts; layer {layer} has {n_experts}")
