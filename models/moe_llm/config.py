"""The config of a mixture of experts trained here, in the words of its paper (arXiv 2603.11535)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError

MODEL_TYPE = "moe_llama"
ROUTERS = ("dense", "token_choice", "expert_choice", "expert_threshold")
BALANCES = ("none", "aux", "loss_free")
POOLS = ("batch", "sequence")


@dataclass(frozen=True)
class MoeLlamaConfig:
    """Sizes of a Llama whose FFNs, but those of the first layers, are mixtures of experts, and the rule that routes them.

    `granularity` G and `expansion` E: G x E routed experts of width `intermediate_size` / G. A token is given G experts on
    average, the shared one among them where there is one: so many neurons as a dense FFN of `intermediate_size`, which `dense` has.

    >>> config = MoeLlamaConfig(4096, 96, 512, 5, 4, 2, 256, 24)
    >>> config.n_experts, config.expert_size, config.n_active, config.rate
    (8, 256, 1, 0.125)
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    head_dim: int
    router: str = "expert_threshold"
    granularity: int = 2
    expansion: int = 4
    shared_expert: bool = True
    dense_layers: int = 1
    balance: str = "none"
    routing_pool: str = "batch"
    capacity: float = 0.5
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = True

    @property
    def n_experts(self) -> int:
        """Routed experts of a layer."""
        return self.granularity * self.expansion

    @property
    def expert_size(self) -> int:
        """Inner width of an expert."""
        return self.intermediate_size // self.granularity

    @property
    def n_active(self) -> int:
        """Routed experts of a token, on average."""
        return self.granularity - int(self.shared_expert)

    @property
    def rate(self) -> float:
        """The share of tokens that a routed expert is to take."""
        return self.n_active / self.n_experts

    @property
    def expert_layers(self) -> tuple[int, ...]:
        """The layers with experts."""
        return () if self.router == "dense" else tuple(range(self.dense_layers, self.num_hidden_layers))

    def k_of(self, n_tokens: int) -> int:
        """How many tokens of a pool an expert is to take; at least one."""
        return max(1, n_tokens * self.n_active // self.n_experts)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> MoeLlamaConfig:
        """The config that a `config.json` holds. Raises InputError for what is missing or out of range."""
        known: dict[str, Any] = {}
        for field in fields(cls):
            value = config.get(field.name, field.default)
            sort = {"int": int, "bool": bool, "str": str}.get(str(field.type), int | float)
            if not isinstance(value, sort) or (isinstance(value, bool) and sort is not bool):
                raise InputError(f"config.json: {field.name} must be of type {field.type}; got {value!r:.80}")
            known[field.name] = value
        found = cls(**known)
        found.check()
        return found

    def check(self) -> None:
        """Raises InputError for sizes that do not fit one another."""
        least = {"dense_layers": 0, "vocab_size": 2}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and value < least.get(field.name, 1):
                raise InputError(f"config.json: {field.name} must be at least {least.get(field.name, 1)}; got {value}")
        for name, choices in (("router", ROUTERS), ("balance", BALANCES), ("routing_pool", POOLS)):
            check_choice(name, getattr(self, name), choices)
        for many, few in (("num_attention_heads", "num_key_value_heads"), ("intermediate_size", "granularity")):
            if getattr(self, many) % getattr(self, few):
                raise InputError(
                    f"config.json: {many} must be a multiple of {few}; got {getattr(self, many)} and {getattr(self, few)}"
                )
        if self.head_dim % 2:
            raise InputError(f"config.json: head_dim must be even for rotary positions; got {self.head_dim}")
        if self.n_active < 1:
            raise InputError(
                "config.json: granularity must be at least 2 beside a shared expert, which is one of a token's experts; got 1"
            )
        if self.dense_layers >= self.num_hidden_layers and self.router != "dense":
            raise InputError(
                f"config.json: dense_layers must leave a layer for the experts; got {self.dense_layers} of {self.num_hidden_layers}"
            )
        if self.capacity < 0:
            raise InputError(f"config.json: capacity must not be below 0; got {self.capacity:g}")
        if self.balance != "none" and self.router != "token_choice":
            raise InputError(f"config.json: balance {self.balance} is of token_choice; router is {self.router}")

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"model_type": MODEL_TYPE, "architectures": ["MoeLlama"], **asdict(self), "hidden_act": "silu", "dtype": "float32"}
