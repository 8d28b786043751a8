"""Any causal language model of transformers, run by its own modules: the plain form that routers run on, and the frozen one.

Layers, norms, heads and experts are the library's, with the checkpoint's tensors in place. Here is what it has not: a small FFN
beside each big one, branches, and many candidate states over one stored context. What can be done with a layer is its plan
(`blocks.py`); whether the whole is right is the check's to say (`check.py`). Knows no family.

Axes: B batch, T token, L routed layer, G group, S row of a group, K key/value head, C context token, d head dimension, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.frozen import block_rows
from duo_oracle.models.hf import calls
from duo_oracle.models.hf.blocks import Blocks, Plan
from duo_oracle.models.hf.library import SMALL, library_model, one_line, use_attention
from duo_oracle.models.hf.routed import Ffns, routed_logits
from duo_oracle.models.hf.small_ffn import attach_small, resized
from duo_oracle.models.hf.trunk import Trunk
from duo_oracle.models.routable import RoutableModule
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch


class PretrainedModule(RoutableModule):
    """A causal language model of transformers with small FFNs."""

    def __init__(self, model: nn.Module, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model: Any = model
        self.own_attention = use_attention(model, calls.attention, calls.masks)
        self._take_apart()
        with torch.device("meta"):  # their values come from the checkpoint, or from what makes them
            attach_small(self.layers, self.new_small_ffn, config)

    def _take_apart(self) -> None:
        self.trunk = Trunk(self.model)
        self.blocks = Blocks(self.trunk)
        self.depth, self.n_hidden = self.trunk.depth, self.blocks.n_hidden
        self.n_vocabulary, self.n_positions = self.trunk.n_vocabulary, self.trunk.n_positions
        self.trunk.find_head_form(self.blocks.states[-1][0])

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Moved or converted: what was recorded is recorded anew."""
        super()._apply(*args, **kwargs)
        self._take_apart()
        return self

    @property
    def layers(self) -> nn.ModuleList:
        return self.trunk.layers

    @property
    def plan(self) -> Plan:
        return self.blocks.plan

    @property
    def small_layers(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.depth) if hasattr(self.layers[layer], "small_mlp"))

    @property
    def unembedding_VD(self) -> Tensor:
        return cast(Tensor, self.trunk.head.weight)

    def big_ffn(self, layer: int) -> nn.Module:
        """The layer's FFN: one child of it, or a dictionary of several. Raises InputError where it is not to be told apart."""
        ffn = self.blocks.parts[layer].ffn
        if self.plan not in (Plan.SERIAL, Plan.PARALLEL):
            raise InputError(f"the FFN of a {self.model.config.model_type} layer cannot be exchanged for another")
        return next(iter(ffn.values())) if len(ffn) == 1 else nn.ModuleDict(ffn)

    def new_small_ffn(self, layer: int, n_inner: int) -> nn.Module:
        """An FFN of the layer's kind with `n_inner` neurons, on the current default device."""
        return resized(self.big_ffn(layer), n_inner)

    def ffn_of(self, layer: int, branch: Branch) -> Mapping[str, nn.Module] | None:
        """What stands in for the children of the layer's FFN; None for themselves."""
        if branch is Branch.BIG:
            return None
        small = cast(nn.Module, self.layers[layer].small_mlp)
        names = list(self.blocks.parts[layer].ffn)
        return {names[0]: small} if len(names) == 1 else {name: small.get_submodule(name) for name in names}

    def embed(self, token_id_BT: Tensor) -> Tensor:
        return self.trunk.embed(token_id_BT)

    def attend(self, layer: int, x_BTD: Tensor) -> Tensor:
        return self.blocks.attended(layer, x_BTD, self.blocks.arguments.causal(layer, x_BTD.shape[1]))

    def ffn_input(self, layer: int, attended: Tensor, before: Tensor) -> Tensor:
        return self.blocks.ffn_input(layer, attended, before, self._anywhere(layer))

    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        normed_1RD = normed.reshape(1, -1, self.n_hidden)
        return self.blocks.ffn_adds(layer, normed_1RD, self._anywhere(layer), self.ffn_of(layer, branch)).view(normed.shape)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.trunk.head_input(x)

    def logits(self, x: Tensor) -> Tensor:
        form = self.trunk.form
        logits = F.linear(self.final_norm(x), self.unembedding_VD, form.bias_V)
        return logits if form.softcap is None else form.softcap * torch.tanh(logits / form.softcap)

    def _anywhere(self, layer: int) -> Any:
        """The arguments of a layer whose attention is not asked."""
        return self.blocks.arguments.causal(layer, 1)


class PretrainedModel:
    """A `PretrainedModule` frozen for scoring: implements `oracle.model.OracleModel`. Its weights are the module's."""

    def __init__(self, module: PretrainedModule) -> None:
        self.module = module.eval().requires_grad_(False)
        self._blocks, self._trunk = module.blocks, module.trunk
        self.parts = module.blocks.parts
        self.depth, self.routed_layers, self.n_letters = module.depth, module.routed_layers, module.n_letters
        self.small_layers = module.small_layers
        self.n_hidden, self.n_vocabulary, self.n_positions = module.n_hidden, module.n_vocabulary, module.n_positions
        shapes = [shapes for parts in self._blocks.parts if (shapes := parts.shapes)]
        self.n_kv_heads = max((sum(max(k, v) for k, _, v, _ in each) for each in shapes), default=1)
        self.n_head_dim = max((max(dk, dv) for each in shapes for _, dk, _, dv in each), default=0)
        self.unembedding_VD = module.unembedding_VD.detach()
        self.dtype, self.device = self.unembedding_VD.dtype, self.unembedding_VD.device
        self.logit_bias_V, self.logit_softcap = self._trunk.form.bias_V, self._trunk.form.softcap
        self.ffn_reads_input = self._blocks.plan is not Plan.SERIAL
        residual = self._blocks.plan in (Plan.SERIAL, Plan.PARALLEL)
        self.skip_readings: tuple[SkipReading, ...] = tuple(SkipReading) if residual else (SkipReading.LAYER,)

    @torch.no_grad()
    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self._trunk.embed_at(token_id, position)

    @torch.no_grad()
    def final_norm(self, x: Tensor) -> Tensor:
        return self._trunk.head_input(x)

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        call, ffn = self._blocks.arguments.causal(layer, 1), self.module.ffn_of(layer, branch)
        x_RD = x.reshape(-1, self.n_hidden)
        before_RD = None if before is None else before.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), block_rows(x_RD.device)):
            before_1RD = None if before_RD is None else before_RD[None, rows]
            out_RD[rows] = self._blocks.finished(layer, x_RD[None, rows], before_1RD, call, ffn)[0]
        return out_RD.view(x.shape)

    @torch.no_grad()
    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        n_groups, n_rows, _ = x_GSD.shape
        if n_groups > 1 and self._blocks.arguments.one_group and position_GS.shape[0] > 1:
            hidden = hidden_GSC if hidden_GSC is None else hidden_GSC.expand(n_groups, -1, -1)
            return torch.cat(
                [
                    self.attend(layer, x_GSD[g : g + 1], position_GS[g : g + 1], k_GKCd[g : g + 1], v_GKCd[g : g + 1],
                                None if hidden is None else hidden[g : g + 1])
                    for g in range(n_groups)
                ]
            )  # fmt: skip
        window_GSC = self._blocks.arguments.hidden(layer, position_GS, k_GKCd.shape[2])
        if window_GSC is not None:
            hidden_GSC = window_GSC if hidden_GSC is None else hidden_GSC | window_GSC
        kv = self._unpacked(layer, k_GKCd, v_GKCd)
        one_position = position_GS.shape[1] == 1
        call = self._blocks.arguments.at(layer, position_GS) if one_position else None
        out_GSD = torch.empty_like(x_GSD)
        for rows in chunks(n_rows, max(1, block_rows(x_GSD.device) // n_groups)):
            hidden = hidden_GSC if hidden_GSC is None or hidden_GSC.shape[1] == 1 else hidden_GSC[:, rows]
            here = call or self._blocks.arguments.at(layer, position_GS[:, rows])
            out_GSD[:, rows] = self._blocks.candidates(layer, x_GSD[:, rows], here, kv, hidden)
        return out_GSD

    @torch.no_grad()
    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        return self.module.attend(layer, x_BTD)

    @torch.no_grad()
    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        if len(x_GSD) > 1 and len(position_GS) > 1 and self._blocks.arguments.one_group:
            found = [self.key_value(layer, x_GSD[g : g + 1], position_GS[g : g + 1]) for g in range(len(x_GSD))]
            return torch.cat([k for k, _ in found]), torch.cat([v for _, v in found])
        return self._packed(self._blocks.keys_values(layer, x_GSD, self._blocks.arguments.at(layer, position_GS)))

    @torch.no_grad()
    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        smalls = {layer: self.module.ffn_of(layer, Branch.SMALL) for layer in self.small_layers}
        ffns = [Ffns(parts, parts.ffn, smalls.get(layer)) for layer, parts in enumerate(self._blocks.parts)]
        return routed_logits(self._trunk, ffns, token_id_BT, mask_BTL, skip)

    def _packed(self, kv: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The keys and values of a layer's attention calls, in the width that all layers share."""
        return self._pack([k for k, _ in kv]), self._pack([v for _, v in kv])

    def _pack(self, parts: list[Tensor]) -> Tensor:
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        more_heads, wider = self.n_kv_heads - whole.shape[1], self.n_head_dim - whole.shape[3]
        return F.pad(whole, (0, wider, 0, 0, 0, more_heads)) if more_heads or wider else whole

    def _unpacked(self, layer: int, k_GKCd: Tensor, v_GKCd: Tensor) -> list[tuple[Tensor, Tensor]]:
        found, k_start, v_start = [], 0, 0
        for n_k, dk, n_v, dv in self._blocks.parts[layer].shapes:
            found.append((k_GKCd[:, k_start : k_start + n_k, :, :dk], v_GKCd[:, v_start : v_start + n_v, :, :dv]))
            k_start, v_start = k_start + n_k, v_start + n_v
        return found


def pretrained_module(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> PretrainedModule:
    """The module of a checkpoint, small FFNs and all. Raises InputError for a config or tensors that do not fit."""
    model: Any = library_model(config, tensors, dtype).to(device)
    with one_line(f"a {model.config.model_type} model of transformers cannot be run layer by layer"):
        module = PretrainedModule(model, config)
    _fill_small(module, tensors, dtype)
    return module.eval().requires_grad_(False)


def _fill_small(module: PretrainedModule, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Puts the small FFNs' tensors in place. Raises InputError for one that is missing, of another shape, or left over."""
    prefix = f"{module.model.base_model_prefix}."
    wanted = {name: tensor for name, tensor in module.model.state_dict().items() if SMALL in name}
    given = {name if name in wanted else prefix + name: tensor for name, tensor in tensors.items() if SMALL in name}
    for name in given:
        if name not in wanted:
            raise InputError(f"the checkpoint holds tensor {name}; config.json names no such small FFN")
    for name, tensor in wanted.items():
        shape = list(tensor.shape)
        if name not in given:
            raise InputError(f"the checkpoint has no tensor {name}; {module.model.config.model_type} needs it with shape {shape}")
        if list(given[name].shape) != shape:
            raise InputError(f"tensor {name} must have shape {shape} by config.json; found {list(given[name].shape)}")
    placed = {name: tensor.to(module.unembedding_VD.device, dtype) for name, tensor in given.items()}
    module.model.load_state_dict(placed, strict=False, assign=True)
