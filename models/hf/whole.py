"""The slow path: layers that can only be run as a whole, such as state-space ones, and attention with a code of its own.

What a token leaves at a layer is the state that entered it. A candidate's layer runs on that context with the library's own cache,
which is then spread over the candidates: any layer that generates text can be run so. The FFN is a part of the layer: it can be
skipped with the layer alone.

Axes: G group, S row of a group, R rows of a block, B batch, T token, C context token, D hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.hf.arguments import Call, Tokens, map_tokens, paired
from duo_oracle.models.hf.library import own_attention
from duo_oracle.models.hf.pretrained import PretrainedModel, PretrainedModule
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

_MOST_ROWS, _MOST_MASKED = 64, 1 << 24  # rows of a block, and entries of its masks


class WholeModel(PretrainedModel):
    """Implements `oracle.model.OracleModel`; keys and values are the states that enter a layer."""

    def __init__(self, module: PretrainedModule) -> None:
        super().__init__(module)
        own_attention(module.model, module.own_attention)
        self.n_kv_heads, self.n_head_dim = 1, self.n_hidden
        self.ffn_reads_input, self.skip_readings = False, (SkipReading.LAYER,)
        self._calls = lru_cache(maxsize=4)(self._recorded)

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        return x  # `attend` ran the whole layer

    @torch.no_grad()
    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        assert position_GS.shape[1] == 1, "the rows of a group stand at one position"
        out_GSD = torch.empty_like(x_GSD)
        positions = position_GS[:, 0].expand(len(x_GSD)).tolist()
        for group, position in enumerate(positions):
            past = self._past(layer, k_GKCd[group, :, :position])
            for rows in chunks(x_GSD.shape[1], self._rows(position + 1)):
                out_GSD[group, rows] = self._step(layer, x_GSD[group, rows], position, past)
        return out_GSD

    @torch.no_grad()
    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        n_tokens, out_BTD = x_BTD.shape[1], torch.empty_like(x_BTD)
        for rows in chunks(len(x_BTD), self._rows(n_tokens)):
            x_RTD = x_BTD[rows]
            call = self._call(layer, len(x_RTD), n_tokens, lambda tokens: tokens.first(n_tokens), None)
            out_BTD[rows] = call.run(self.module.layers[layer], x_RTD)
        return out_BTD

    @torch.no_grad()
    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        return x_GSD[:, None], x_GSD[:, None]

    def _past(self, layer: int, x_1CD: Tensor) -> Any:
        """The layer's cache after the context."""
        cache, n_context = self._new_cache(), x_1CD.shape[1]
        if n_context:
            call = self._call(layer, 1, n_context, lambda tokens: tokens.first(n_context), cache)
            call.run(self.module.layers[layer], x_1CD)
        return cache

    def _step(self, layer: int, x_RD: Tensor, position: int, past: Any) -> Tensor:
        """The layer's output for rows that are alternatives at one position."""
        cache = copy.copy(past)
        cache.layers = [copy.deepcopy(each) if number == layer else each for number, each in enumerate(past.layers)]
        if position:
            cache.layers[layer].reorder_cache(torch.zeros(len(x_RD), dtype=torch.int64, device=x_RD.device))
        call = self._call(layer, len(x_RD), position + 1, lambda tokens: tokens.step(position), cache)
        return call.run(self.module.layers[layer], x_RD[:, None].contiguous())[:, 0]

    def _call(self, layer: int, n_rows: int, n_tokens: int, take: Callable[[Tokens], Any], cache: Any) -> Call:
        n = max(2, n_tokens, min(1 << (n_tokens - 1).bit_length(), self.n_positions))
        recorded = self._calls(n_rows, n, cache is not None)[layer]
        args, kwargs = map_tokens((recorded.args, recorded.kwargs), take)
        if cache is None:
            return Call(args, kwargs)
        kind = type(cache)
        return Call(
            tuple(cache if isinstance(value, kind) else value for value in args),
            {key: cache if isinstance(value, kind) else value for key, value in kwargs.items()},
        )

    def _recorded(self, n_rows: int, n_tokens: int, cached: bool) -> list[Call]:
        longer, shorter = (self._trunk.calls(n, n_rows, cached) for n in (n_tokens, n_tokens - 1))
        return [
            Call(*paired((call.args, call.kwargs), (less.args, less.kwargs), n_tokens, {}))
            for call, less in zip(longer, shorter, strict=True)
        ]

    def _new_cache(self) -> Any:
        """An empty cache of the model's own kind."""
        for value in (*self._trunk.calls(1, 1, cached=True)[0].args, *self._trunk.calls(1, 1, cached=True)[0].kwargs.values()):
            if hasattr(value, "layers") and hasattr(value, "update"):
                return value
        raise RuntimeError("the layers are given no cache")

    @staticmethod
    def _rows(n_tokens: int) -> int:
        return max(1, min(_MOST_ROWS, _MOST_MASKED // n_tokens**2))
