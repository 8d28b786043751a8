"""A mixture of experts of transformers, routed over a table of experts: which of them a token runs, and at what weights.

No family is known by name. In all of them a block has a router, which gives (logits, weights, index) for its `top_k`, and experts,
which take states, index and weights; both are found by what they have. A set's weights follow the router's own rule, which is seen
by asking it: what it gives all experts at once, taken as it is, or shared out among the set's in that proportion. Experts' outputs
are linear in the weights, so the experts of a state are run once, and every branch weighs what they gave.

Axes: S states of a level, N positions, R rows (states of any positions), D hidden, E experts, M experts of a row by rank (or those
that a table of sets lists), K of them that run, B batch, T token, L routed layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.experts.over_table import NO_EXPERT, Given, OverTable, routed_over, shared_out
from duo_oracle.models.hf.blocks import Plan
from duo_oracle.models.hf.calls import patched
from duo_oracle.models.hf.pretrained import PretrainedModel
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import BranchTable, TableKind
from duo_oracle.oracle.contexts import SkipReading


@dataclass(frozen=True)
class Mixture:
    """A layer's router and experts. `shares_out`: a set's weights are shared out again among its experts."""

    router: Any
    experts: nn.Module
    n_experts: int
    own_k: int
    shares_out: bool

    def index(self, h_RD: Tensor, k: int) -> Tensor:
        """The k best experts by the router's own choice, int64 (R, k), in no order."""
        with _asking(self.router, top_k=k):
            return self.router(h_RD)[2]

    def by_rank(self, h_RD: Tensor, n_ranks: int) -> Tensor:
        """The best experts, the best first: int64 (R, M). Those of groups that the router leaves out come after all others."""
        in_groups = _n_in_groups(self.router, self.n_experts)
        if n_ranks <= in_groups:
            return self._ordered(h_RD, n_ranks)
        first_RM = self._ordered(h_RD, in_groups)
        with _asking(self.router, topk_group=self.router.num_group):
            every_RE = self._ordered(h_RD, self.n_experts)
        rest_RE = ~(every_RE[:, :, None] == first_RM[:, None]).any(dim=2)
        return torch.cat([first_RM, every_RE[rest_RE].view(len(h_RD), -1)], dim=1)[:, :n_ranks]

    def _ordered(self, h_RD: Tensor, n_ranks: int) -> Tensor:
        index_RM = self.index(h_RD, n_ranks)
        later_RM = torch.zeros_like(index_RM)
        for k in range(1, n_ranks):
            later_RM += (index_RM[:, :, None] != self.index(h_RD, k)[:, None]).all(dim=2)
        return index_RM.gather(1, later_RM.argsort(dim=1, stable=True))

    def weights(self, h_RD: Tensor) -> Tensor:
        """What the router would give every expert, were all to run: (R, E)."""
        return _all_weights(self.router, h_RD, self.n_experts)

    def of_set(self, weight_RM: Tensor, total_R1: Tensor, members: list[int], renormalised: bool) -> Tensor:
        """The weights of the columns `members` when they alone run: (R, K). `renormalised`: shared out, though the router's are
        not; they then add up to the factor by which a router scales all weights, where it has one."""
        weight_RK = weight_RM[:, members]
        if not members:
            return weight_RK
        if self.shares_out:
            return weight_RK / weight_RK.sum(dim=1, keepdim=True) * total_R1
        return shared_out(weight_RK) * getattr(self.router, "routed_scaling_factor", 1.0) if renormalised else weight_RK


@contextlib.contextmanager
def _asking(router: Any, **settings: int) -> Iterator[None]:
    """The router with other settings for a while."""
    before = {name: getattr(router, name) for name in settings}
    for name, value in settings.items():
        setattr(router, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(router, name, value)


def _n_in_groups(router: Any, n_experts: int) -> int:
    """How many experts a router chooses among: all, or those of its best groups of experts."""
    n_groups = getattr(router, "num_group", None)
    return n_experts // n_groups * router.topk_group if n_groups and getattr(router, "topk_group", None) else n_experts


def _all_weights(router: Any, h_RD: Tensor, n_experts: int) -> Tensor:
    groups = {"topk_group": router.num_group} if getattr(router, "num_group", None) else {}
    with _asking(router, top_k=n_experts, **groups):
        _, weight_RE, index_RE = router(h_RD)
    return torch.zeros_like(weight_RE).scatter(1, index_RE, weight_RE)


@torch.no_grad()
def find_mixture(ffn: Mapping[str, nn.Module], n_hidden: int, what: str) -> Mixture | None:
    """The mixture among the children that make a layer's FFN; None where there is none.

    Raises InputError for a router whose weights follow neither rule."""
    for block in ffn.values():
        children = list(block.children())
        routers = [child for child in children if isinstance(getattr(child, "top_k", None), int) and hasattr(child, "weight")]
        experts = [child for child in children if any(parameter.dim() == 3 for parameter in child.parameters())]
        if len(routers) != 1 or len(experts) != 1:
            continue
        router: Any = routers[0]
        n_experts = int(router.weight.shape[0])
        generator = torch.Generator().manual_seed(0)
        h_RD = torch.randn(8, n_hidden, generator=generator).to(router.weight.device, next(experts[0].parameters()).dtype)
        weight_RE = _all_weights(router, h_RD, n_experts)
        with _asking(router, top_k=1):
            _, alone_R1, index_R1 = router(h_RD)
        taken_R1, total_R1 = weight_RE.gather(1, index_R1), weight_RE.sum(dim=1, keepdim=True)
        if torch.allclose(alone_R1, total_R1, rtol=1e-2 if alone_R1.dtype == torch.bfloat16 else 1e-5):
            return Mixture(router, experts[0], n_experts, int(router.top_k), True)
        if not torch.allclose(alone_R1, taken_R1, rtol=1e-2 if alone_R1.dtype == torch.bfloat16 else 1e-5):
            raise InputError(f"{what}: the router gives a set of experts weights by a rule that is not known here")
        return Mixture(router, experts[0], n_experts, int(router.top_k), False)
    return None


class ExpertsModel(OverTable):
    """A mixture of transformers whose routed layers run what a table of experts says."""

    def __init__(self, model: PretrainedModel, table: BranchTable, layers: tuple[int, ...], mixtures: dict[int, Mixture]) -> None:
        super().__init__(model, table, layers, sum(mixtures[layer].own_k for layer in layers))
        self._mixtures = mixtures
        self._blocks, self._trunk = model.module.blocks, model.module.trunk

    @torch.no_grad()
    def own_trace(self, token_id_T: Tensor) -> tuple[Tensor, Tensor]:
        found: dict[int, tuple[Tensor, Tensor]] = {}
        with contextlib.ExitStack() as hooks:
            for layer in self.routed_layers:
                router = self._mixtures[layer].router
                hooks.callback(router.register_forward_hook(lambda _, __, out, layer=layer: found.update({layer: out[1:3]})).remove)
            self._trunk.run(token_id_T[None])
        widest = max(index_Tk.shape[1] for _, index_Tk in found.values())
        own_TLk = torch.full((len(token_id_T), self.n_letters, widest), NO_EXPERT, dtype=torch.int64, device=token_id_T.device)
        weight_TLk = torch.zeros(own_TLk.shape, device=token_id_T.device)
        for letter, layer in enumerate(self.routed_layers):
            weight_Tk, index_Tk = found[layer]
            rising_Tk, order_Tk = index_Tk.sort(dim=1)
            own_TLk[:, letter, : index_Tk.shape[1]] = rising_Tk
            weight_TLk[:, letter, : index_Tk.shape[1]] = weight_Tk.float().gather(1, order_Tk)
        return own_TLk, weight_TLk

    def _of_set(self, layer: int, weight_RM: Tensor, total_R1: Tensor, members: list[int]) -> Tensor:
        return self._mixtures[layer].of_set(weight_RM, total_R1, members, self._renormalised)

    @property
    def _weighs_own_alike(self) -> bool:
        return not self._renormalised or all(self._mixtures[layer].shares_out for layer in self.routed_layers)

    def _experts_of(self, layer: int, x_SND: Tensor, before_SND: Tensor) -> Given:
        """What each expert that the table asks for gives every state, unweighed out_MSND; their weights (S, N, M), were all
        experts to run, and the sum of all experts' (S, N, 1)."""
        mixture = self._mixtures[layer]
        call = self._blocks.arguments.causal(layer, 1)
        h_RD = self._blocks.ffn_input(layer, x_SND.reshape(1, -1, self.n_hidden), before_SND.reshape(1, -1, self.n_hidden), call)
        h_RD = h_RD.reshape(-1, self.n_hidden)
        index_RM = self._index(mixture, h_RD)
        weight_RE = mixture.weights(h_RD)
        ones_R1 = weight_RE.new_ones(len(h_RD), 1)
        given = [mixture.experts(h_RD, index_RM[:, slot, None], ones_R1) for slot in range(index_RM.shape[1])]
        shape = x_SND.shape[:-1]
        out_MSND = torch.stack(given).view(-1, *x_SND.shape) if given else x_SND.new_empty((0, *x_SND.shape))
        return out_MSND, weight_RE.gather(1, index_RM).view(*shape, -1), weight_RE.sum(dim=1).view(*shape, 1)

    def _index(self, mixture: Mixture, h_RD: Tensor) -> Tensor:
        """The experts that the table may ask for, int64 (R, M)."""
        if self.table.kind is TableKind.SETS:
            return torch.tensor(self.table.experts, dtype=torch.int64, device=h_RD.device).expand(len(h_RD), -1)
        if not self.table.n_ranks:
            return torch.empty((len(h_RD), 0), dtype=torch.int64, device=h_RD.device)
        return mixture.by_rank(h_RD, self.table.n_ranks)

    def _finished(self, layer: int, x_SND: Tensor, before_SND: Tensor, experts_RD: Tensor) -> Tensor:
        """The states after the layer whose experts give that."""
        call = self._blocks.arguments.causal(layer, 1)
        x_1RD, before_1RD = (x.reshape(1, -1, self.n_hidden) for x in (x_SND, before_SND))
        with patched([(self._mixtures[layer].experts, lambda *_, **__: experts_RD)]):
            return self._blocks.finished(layer, x_1RD, before_1RD, call).view(x_SND.shape)

    @torch.no_grad()
    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        """By the library's whole forward, its routers alone replaced: nothing of the above is used but the choice of sets."""
        pairs = []
        for letter, layer in enumerate(self.routed_layers):
            pairs.append((self._mixtures[layer].router, self._router(self._mixtures[layer], mask_BTL[:, :, letter].flatten())))
        with patched(pairs):
            return self._trunk.run(token_id_BT)

    def _router(self, mixture: Mixture, branch_R: Tensor) -> Any:
        own = mixture.router.forward
        widest = max(mixture.own_k, self.table.dearest, 1)

        def forward(h_RD: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
            with patched([(mixture.router, own)]):
                h_RD = h_RD.reshape(-1, self.n_hidden)
                logits_RE, weight_Rk, index_Rk = own(h_RD)
                every_RE, column_RM = mixture.weights(h_RD), self._index(mixture, h_RD)
            weight_RK = weight_Rk.new_zeros(len(h_RD), widest)
            index_RK = index_Rk.new_zeros(len(h_RD), widest)
            weight_RK[:, : weight_Rk.shape[1]], index_RK[:, : index_Rk.shape[1]] = weight_Rk, index_Rk
            for branch in self.table.branches:
                rows, members = torch.nonzero(branch_R == int(branch))[:, 0], self._members(branch)
                taken_RM = every_RE[rows].gather(1, column_RM[rows])
                weight_RK[rows], index_RK[rows] = 0, 0
                total_R1 = every_RE[rows].sum(dim=1, keepdim=True)
                of_set_RK = mixture.of_set(taken_RM, total_R1, members, self._renormalised)
                weight_RK[rows, : len(members)] = of_set_RK.to(weight_RK.dtype)
                index_RK[rows, : len(members)] = column_RM[rows][:, members]
            return logits_RE, weight_RK, index_RK

        return forward


def over_experts(model: PretrainedModel, table: BranchTable, layers: tuple[int, ...] | None) -> ExpertsModel:
    """The model routed over a table of experts at these layers, by default all that have experts. Raises InputError for a model or
    layers without experts, and a table that names more experts than there are."""
    kind = model.module.model.config.model_type
    found: dict[int, Mixture] = {}
    if model.module.plan in (Plan.SERIAL, Plan.PARALLEL):
        for layer, parts in enumerate(model.module.blocks.parts):
            mixture = find_mixture(parts.ffn, model.n_hidden, f"layer {layer} of this {kind} model")
            if mixture is not None:
                found[layer] = mixture
    routed = routed_over(table, {layer: mixture.n_experts for layer, mixture in found.items()}, layers, kind)
    return ExpertsModel(model, table, routed, found)
