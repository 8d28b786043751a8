"""OPT: learned positions, norms with biases, an FFN of two maps with a rectifier (over the modules of transformers).

Its FFN is no module of its own in transformers: `fc1`, `activation_fn` and `fc2` of the layer.

Axes: as in `models/hf/pretrained.py`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule, pretrained_family
from duo_oracle.oracle.base.errors import InputError

MODEL_TYPE = "opt"


class OptFfn(nn.Module):
    """fc2(activation(fc1(x)))."""

    def __init__(self, fc1: nn.Module, activation: nn.Module, fc2: nn.Module) -> None:
        super().__init__()
        self.fc1, self.activation_fn, self.fc2 = fc1, activation, fc2

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))


class Opt(PretrainedModule):
    prefix = "model."

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__(model, config)
        for key, value, supported in (
            ("do_layer_norm_before", config.do_layer_norm_before, True),
            ("word_embed_proj_dim", config.word_embed_proj_dim, config.hidden_size),
        ):
            if value != supported:
                raise InputError(f"config.json: {key} must be {supported!r} for {MODEL_TYPE}; got {value!r}")

    @property
    def layers(self) -> Any:
        return self.model.model.decoder.layers

    def embed_at(self, token_id: Tensor, position: Tensor) -> Tensor:
        trunk = self.model.model.decoder
        return trunk.embed_tokens(token_id) + trunk.embed_positions(None, position_ids=position)

    def attention(self, layer: int, x_BTD: Tensor) -> Tensor:
        part = self.layers[layer]
        return part.self_attn(part.self_attn_layer_norm(x_BTD), attention_mask=None)[0]

    def projected(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        part = self.layers[layer]
        heads, normed = part.self_attn, part.self_attn_layer_norm(x)
        q, k, v = (project(normed).unflatten(-1, (-1, self.head_dim)) for project in (heads.q_proj, heads.k_proj, heads.v_proj))
        return q * heads.scaling, k, v

    def out_projection(self, layer: int) -> nn.Module:
        return self.layers[layer].self_attn.out_proj

    def ffn_input(self, layer: int, x: Tensor) -> Tensor:
        return self.layers[layer].final_layer_norm(x)

    def big_ffn(self, layer: int) -> nn.Module:
        part = self.layers[layer]
        return OptFfn(part.fc1, part.activation_fn, part.fc2)

    def new_small_ffn(self, n_inner: int) -> nn.Module:
        bias = self.config.enable_bias
        fc1, fc2 = nn.Linear(self.n_hidden, n_inner, bias=bias), nn.Linear(n_inner, self.n_hidden, bias=bias)
        return OptFfn(fc1, self.layers[0].activation_fn, fc2)

    def final_norm(self, x: Tensor) -> Tensor:
        norm = self.model.model.decoder.final_layer_norm
        return x if norm is None else norm(x)


_TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "word_embed_proj_dim": 16,
    "ffn_dim": 24,
    "small_intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "dropout": 0.0,
}

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, Opt, _TINY)
