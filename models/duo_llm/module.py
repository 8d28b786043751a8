"""The Duo-LLM: Llama-2 layers with a big and a small FFN behind the same norm and the same attention.

The module's parameter names are the checkpoint's tensor names. Routing is an argument of forward, never state. The file
knows nothing of training, search or files; the frozen form that the oracle scores with is `packed.py`.

Axes: B batch, T token, L layer, D hidden, F FFN inner, H query heads, K key/value heads, d head dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.routable import RoutableModule
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch

MODEL_TYPE = "duo_llama"


@dataclass(frozen=True)
class DuoLlamaConfig:
    """LlamaConfig's keys that a plain Llama-2 needs, and `small_intermediate_size`, the small FFN's inner width."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    small_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = True

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> DuoLlamaConfig:
        """The config that a `config.json` holds.

        Raises InputError for a missing or non-positive number, heads that do not divide, and for Llama options that are
        not supported (another activation, biases, scaled rotary positions), rather than computing something else.
        """
        known = {key: config[key] for key in (field.name for field in fields(cls)) if config.get(key) is not None}
        known.setdefault("num_key_value_heads", known.get("num_attention_heads"))
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise InputError(f"config.json: rope_parameters must be an object; got {rope!r:.80}")
        if rope.get("rope_theta") is not None:
            known["rope_theta"] = rope["rope_theta"]
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        for key, value, supported in (
            ("hidden_act", config.get("hidden_act", "silu"), "silu"),
            ("attention_bias", config.get("attention_bias", False), False),
            ("mlp_bias", config.get("mlp_bias", False), False),
            ("rope_type", rope_type, "default"),
        ):
            if value != supported:
                raise InputError(f"config.json: {key} must be {supported!r} for {MODEL_TYPE}; got {value!r}")
        if "head_dim" not in known and _is_size(known.get("hidden_size")) and _is_size(known.get("num_attention_heads")):
            known["head_dim"] = known["hidden_size"] // known["num_attention_heads"]
        for field in fields(cls):
            value = known.get(field.name)
            if field.type == "int" and not _is_size(value):
                raise InputError(f"config.json: {field.name} must be a whole number above 0; got {value!r}")
            if field.type == "float" and field.name in known and not (isinstance(value, int | float) and value > 0):
                raise InputError(f"config.json: {field.name} must be a number above 0; got {value!r}")
        if known["num_attention_heads"] % known["num_key_value_heads"]:
            raise InputError(
                f"config.json: num_attention_heads must be a multiple of num_key_value_heads; got "
                f"{known['num_attention_heads']} and {known['num_key_value_heads']}"
            )
        if known["head_dim"] % 2:
            raise InputError(f"config.json: head_dim must be even for rotary positions; got {known['head_dim']}")
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds: readable by this project and by transformers' LlamaConfig."""
        fixed = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "rope_scaling": None, "dtype": "float32"}
        return {"model_type": MODEL_TYPE, "architectures": ["DuoLlama"], **asdict(self), **fixed}

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape, in the module's order."""
        return shapes_of(lambda: DuoLlama(self))


def shapes_of(make: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a module, in its order; none of them is made.

    Raises InputError for sizes that no tensor can have.
    """
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    except (RuntimeError, TypeError, OverflowError) as fault:
        raise InputError(f"config.json: sizes that no tensor can have: {str(fault).splitlines()[0]:.120}") from None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class RMSNorm(nn.Module):
    def __init__(self, n_hidden: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_hidden))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


@lru_cache(maxsize=8)
def rotary_tables(n_positions: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos_Td and sin_Td in float32, in the half-split convention of Llama's published checkpoints."""
    frequency = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(n_positions, dtype=torch.float32), frequency)
    angle_Td = torch.cat((angle, angle), dim=-1)
    return angle_Td.cos(), angle_Td.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., d) turned to its position; cos and sin broadcast against it."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class LlamaSizes(Protocol):
    """What a config says of all but the FFNs."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def rms_norm_eps(self) -> float: ...
    @property
    def rope_theta(self) -> float: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def tie_word_embeddings(self) -> bool: ...


class Attention(nn.Module):
    def __init__(self, config: LlamaSizes) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, self.n_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.n_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.n_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, cos_Td: Tensor, sin_Td: Tensor) -> Tensor:
        n_batch, n_tokens, _ = x_BTD.shape
        q_BHTd = self.q_proj(x_BTD).view(n_batch, n_tokens, self.n_heads, self.head_dim).transpose(1, 2)
        k_BKTd = self.k_proj(x_BTD).view(n_batch, n_tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        v_BKTd = self.v_proj(x_BTD).view(n_batch, n_tokens, self.n_kv_heads, self.head_dim).transpose(1, 2)
        q_BHTd, k_BKTd = rotate(q_BHTd, cos_Td, sin_Td), rotate(k_BKTd, cos_Td, sin_Td)
        groups = self.n_heads // self.n_kv_heads
        k_BHTd, v_BHTd = k_BKTd.repeat_interleave(groups, dim=1), v_BKTd.repeat_interleave(groups, dim=1)
        out_BHTd = F.scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd, is_causal=True)
        return self.o_proj(out_BHTd.transpose(1, 2).reshape(n_batch, n_tokens, -1))


class FeedForward(nn.Module):
    """SwiGLU, of either size."""

    def __init__(self, n_hidden: int, n_inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(n_hidden, n_inner, bias=False)
        self.up_proj = nn.Linear(n_hidden, n_inner, bias=False)
        self.down_proj = nn.Linear(n_inner, n_hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    """A layer's attention and norms. Its FFNs are the subclass's."""

    def __init__(self, config: LlamaSizes) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class DuoLayer(LlamaLayer):
    def __init__(self, config: DuoLlamaConfig) -> None:
        super().__init__(config)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size)
        self.small_mlp = FeedForward(config.hidden_size, config.small_intermediate_size)


class Trunk(nn.Module):
    """Embedding, layers and final norm, named as in a Llama checkpoint."""

    def __init__(self, config: LlamaSizes, make_layer: Callable[[int], LlamaLayer]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(make_layer(layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Llama(RoutableModule):
    """What a trainable Llama is but for its FFNs, which are the subclass's."""

    def __init__(self, config: LlamaSizes, make_layer: Callable[[int], LlamaLayer]) -> None:
        super().__init__()
        self.depth, self.n_hidden = config.num_hidden_layers, config.hidden_size
        self.n_vocabulary, self.n_positions = config.vocab_size, config.max_position_embeddings
        self._head_dim, self._theta = config.head_dim, config.rope_theta
        self.model = Trunk(config, make_layer)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def unembedding_VD(self) -> Tensor:
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def embed(self, token_id_BT: Tensor) -> Tensor:
        return self.model.embed_tokens(token_id_BT)

    def attend(self, layer: int, x_BTD: Tensor) -> Tensor:
        # no buffer, which would have to follow the module's dtype and device
        cos_Td, sin_Td = rotary_tables(x_BTD.shape[1], self._head_dim, self._theta)
        part = self.layer(layer)
        return x_BTD + part.self_attn(part.input_layernorm(x_BTD), cos_Td.to(x_BTD), sin_Td.to(x_BTD))

    def ffn_input(self, layer: int, attended: Tensor, before: Tensor) -> Tensor:
        return self.layer(layer).post_attention_layernorm(attended)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.model.norm(x)

    def layer(self, layer: int) -> LlamaLayer:
        part = self.model.layers[layer]
        assert isinstance(part, LlamaLayer)
        return part


class DuoLlama(Llama):
    """The trainable module."""

    def __init__(self, config: DuoLlamaConfig) -> None:
        super().__init__(config, lambda layer: DuoLayer(config))
        self.config = config

    @property
    def small_layers(self) -> tuple[int, ...]:
        return tuple(range(self.depth))

    def ffn(self, layer: int, branch: Branch, normed: Tensor) -> Tensor:
        part = self.layer(layer)
        assert isinstance(part, DuoLayer)
        return (part.mlp if branch is Branch.BIG else part.small_mlp)(normed)
