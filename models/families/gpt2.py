"""GPT-2: learned positions, norms with biases, an FFN of two maps (over the modules of transformers).

Axes: as in `models/hf/pretrained.py`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule, pretrained_family
from duo_oracle.oracle.base.errors import InputError

MODEL_TYPE = "gpt2"


class Gpt2(PretrainedModule):
    prefix = "transformer."

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__(model, config)
        if config.reorder_and_upcast_attn:
            raise InputError("config.json: reorder_and_upcast_attn must be false; got true")

    @property
    def layers(self) -> Any:
        return self.model.transformer.h

    def embed_at(self, token_id: Tensor, position: Tensor) -> Tensor:
        trunk = self.model.transformer
        return trunk.wte(token_id) + trunk.wpe(position)

    def attention(self, layer: int, x_BTD: Tensor) -> Tensor:
        part = self.layers[layer]
        return part.attn(part.ln_1(x_BTD), attention_mask=None)[0]

    def projected(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        part = self.layers[layer]
        qkv = part.attn.c_attn(part.ln_1(x))
        q, k, v = (third.unflatten(-1, (-1, self.head_dim)) for third in qkv.chunk(3, dim=-1))
        return q * part.attn.scaling, k, v

    def out_projection(self, layer: int) -> nn.Module:
        return self.layers[layer].attn.c_proj

    def ffn_input(self, layer: int, x: Tensor) -> Tensor:
        return self.layers[layer].ln_2(x)

    def big_ffn(self, layer: int) -> nn.Module:
        return self.layers[layer].mlp

    def new_small_ffn(self, n_inner: int) -> nn.Module:
        return type(self.big_ffn(0))(n_inner, self.config)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.model.transformer.ln_f(x)


_TINY = {
    "vocab_size": 40,
    "n_embd": 16,
    "n_inner": 24,
    "small_intermediate_size": 8,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 32,
}

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, Gpt2, _TINY)
