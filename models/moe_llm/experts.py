"""A mixture trained here, routed over a table of experts: by the order of its own router, whatever its rule.

Experts are ordered by the margin of a token's logit over the expert's cutoff, or by logit and bias where the token chooses: so a
token's own set is its best so many, also where cutoffs say how many. A chosen expert's weight is the sigmoid of its logit, in any
set, unless the table's sets are renormalised. The plain forward is the module's own pass with the sets given (`mixed_logits`).

Axes: as in `models/experts/over_table.py`; B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.models.experts.over_table import NO_EXPERT, Given, OverTable, routed_over, shared_out
from duo_oracle.models.moe_llm.config import MODEL_TYPE
from duo_oracle.models.moe_llm.module import Mixture, MoeLlama
from duo_oracle.models.moe_llm.packed import PackedMoeLlama
from duo_oracle.oracle.branches import Branch, BranchTable, TableKind
from duo_oracle.oracle.contexts import SkipReading


class MoeLlamaExperts(OverTable):
    """A `MoeLlama` whose routed layers run what a table of experts says."""

    def __init__(self, model: PackedMoeLlama, table: BranchTable, layers: tuple[int, ...]) -> None:
        module = model.module
        assert isinstance(module, MoeLlama)
        same = module.config.router == "token_choice"
        super().__init__(model, table, layers, module.config.n_active * len(layers) if same else None)
        self.module = module

    @torch.no_grad()
    def own_trace(self, token_id_T: Tensor) -> tuple[Tensor, Tensor]:
        found: dict[int, Tensor] = {}
        weights: dict[int, Tensor] = {}

        def own(layer: int, logit_BTE: Tensor) -> Tensor:
            chosen_BTE = self.module.mixture(layer).own_choice(logit_BTE)
            found[layer], weights[layer] = chosen_BTE[0], torch.sigmoid(logit_BTE[0]).float()
            return chosen_BTE

        self.module.mixed_logits(token_id_T[None], own)
        chosen_TLE = torch.stack([found[layer] for layer in self.routed_layers], dim=1)
        n_experts = chosen_TLE.shape[2]
        expert_E = torch.arange(n_experts, device=chosen_TLE.device)
        own_TLE, order_TLE = torch.where(chosen_TLE, expert_E, n_experts).sort(dim=2)
        weight_TLE = torch.stack([weights[layer] for layer in self.routed_layers], dim=1).gather(2, order_TLE)
        widest, none_TLE = max(1, int(chosen_TLE.sum(dim=2).max())), own_TLE == n_experts
        return own_TLE.masked_fill(none_TLE, NO_EXPERT)[:, :, :widest], weight_TLE.masked_fill(none_TLE, 0)[:, :, :widest]

    def _index(self, mixture: Mixture, logit: Tensor) -> Tensor:
        """The experts that the table may ask for, int64 (..., M), the best first."""
        if self.table.kind is TableKind.SETS:
            return torch.tensor(self.table.experts, dtype=torch.int64, device=logit.device).expand(*logit.shape[:-1], -1)
        return mixture.order(logit).argsort(dim=-1, descending=True, stable=True)[..., : self.table.n_ranks]

    def _experts_of(self, layer: int, x_SND: Tensor, before_SND: Tensor) -> Given:
        mixture = self.module.mixture(layer)
        normed_RD = self.module.ffn_input(layer, x_SND, before_SND).reshape(-1, self.n_hidden)
        logit_RE = mixture.gate(normed_RD)
        index_RM, weight_RE = self._index(mixture, logit_RE), torch.sigmoid(logit_RE)
        ones_RE, none_RE = torch.ones_like(logit_RE), torch.zeros_like(logit_RE, dtype=torch.bool)
        given = [mixture.experts(normed_RD, none_RE.scatter(1, index_R1, True), ones_RE) for index_R1 in index_RM.split(1, dim=1)]
        out_MSND = torch.stack(given).view(-1, *x_SND.shape) if given else x_SND.new_empty((0, *x_SND.shape))
        shape = x_SND.shape[:-1]
        return out_MSND, weight_RE.gather(1, index_RM).view(*shape, -1), weight_RE.sum(dim=1).view(*shape, 1)

    def _of_set(self, layer: int, weight_RM: Tensor, total_R1: Tensor, members: list[int]) -> Tensor:
        weight_RK = weight_RM[:, members]
        return shared_out(weight_RK) if self._renormalised and members else weight_RK

    @property
    def _weighs_own_alike(self) -> bool:
        return not self._renormalised

    def _finished(self, layer: int, x_SND: Tensor, before_SND: Tensor, experts_RD: Tensor) -> Tensor:
        shared, routed_SND = self.module.mixture(layer).shared_experts, experts_RD.view(x_SND.shape)
        if shared is None:
            return x_SND + routed_SND
        return x_SND + (routed_SND + shared(self.module.ffn_input(layer, x_SND, before_SND)))

    @torch.no_grad()
    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        letters = {layer: letter for letter, layer in enumerate(self.routed_layers)}

        def choose(layer: int, logit_BTE: Tensor) -> Tensor:
            mixture = self.module.mixture(layer)
            chosen_BTE = mixture.own_choice(logit_BTE)
            if layer not in letters:
                return chosen_BTE
            branch_BT, index_BTM = mask_BTL[:, :, letters[layer]], self._index(mixture, logit_BTE)
            for branch in self.table.branches:
                set_BTE = torch.zeros_like(chosen_BTE).scatter(2, index_BTM[..., self._members(branch)], True)
                chosen_BTE = torch.where((branch_BT == int(branch))[..., None], set_BTE, chosen_BTE)
            return chosen_BTE

        if bool(((mask_BTL != int(Branch.BIG)) & (mask_BTL < int(self.table.branches[0]))).any()):
            raise ValueError("a mask over a table of experts holds its branches, and the model's own routing")

        def weigh(layer: int, logit_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
            weight_BTE = torch.sigmoid(logit_BTE)
            if layer not in letters:
                return weight_BTE
            routed_BT1 = (mask_BTL[:, :, letters[layer]] != int(Branch.BIG))[..., None]
            return torch.where(routed_BT1, shared_out(weight_BTE * chosen_BTE), weight_BTE)

        return self.module.mixed_logits(token_id_BT, choose, weigh if self._renormalised else None)


def over_experts(model: PackedMoeLlama, table: BranchTable, layers: tuple[int, ...] | None) -> MoeLlamaExperts:
    """The model routed over a table of experts at these layers, by default all that have experts. Raises InputError as
    `routed_over` of `models/experts/over_table.py`."""
    module = model.module
    assert isinstance(module, MoeLlama)
    n_experts = dict.fromkeys(module.config.expert_layers, module.config.n_experts)
    return MoeLlamaExperts(model, table, routed_over(table, n_experts, layers, MODEL_TYPE))
