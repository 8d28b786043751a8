"""Floating-point operations of a Duo-LLM's forward pass, by its config.json.

Counted from the matrix products alone, a multiply-add as two (norms, activations and the router's own few products are below one
percent of them); a token attends to itself and all tokens before it. Knows configs, not weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duo_oracle.models.duo_llm.module import MODEL_TYPE, DuoLlamaConfig
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.flops import Flops


def flops_of(config: Mapping[str, Any], mean_context: float, skip: SkipReading, n_routed: int | None = None) -> Flops | None:
    """The operations of a model by its config.json; None for a family whose products are not known here.

    `mean_context`: to how many tokens, itself included, a token attends on average. Of layers that are not routed (all but
    `n_routed`; default none) the operations are in `head`, for they are the same for every pattern.
    """
    if config.get("model_type") != MODEL_TYPE:
        return None
    duo = DuoLlamaConfig.from_dict(config)
    width, kv_width = duo.num_attention_heads * duo.head_dim, duo.num_key_value_heads * duo.head_dim
    keys_values = 2 * 2 * duo.hidden_size * kv_width
    attention = keys_values + 2 * 2 * duo.hidden_size * width + 2 * 2 * width * mean_context
    small, big = (3 * 2 * duo.hidden_size * inner for inner in (duo.small_intermediate_size, duo.intermediate_size))
    n_fixed = 0 if n_routed is None else duo.num_hidden_layers - n_routed
    return Flops(
        head=2 * duo.hidden_size * duo.vocab_size + n_fixed * (attention + big),
        skip=keys_values if skip is SkipReading.LAYER else attention,
        small=attention + small,
        big=attention + big,
    )
