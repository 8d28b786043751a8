"""A model made twice as wide computes what it did, and its copies learn apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.models.duo_llm.widening import widened
from duo_oracle.oracle.patterns import Branch

CONFIG = DuoLlamaConfig(
    vocab_size=40,
    hidden_size=8,
    intermediate_size=12,
    small_intermediate_size=3,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=16,
    head_dim=2,
)


def random_module(tie: bool) -> DuoLlama:
    torch.manual_seed(5)
    module = DuoLlama(replace(CONFIG, tie_word_embeddings=tie))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def full_logits(module: DuoLlama) -> torch.Tensor:
    token_id_BT = torch.arange(20).reshape(2, 10)
    mask_BTL = torch.full((2, 10, 3), int(Branch.BIG), dtype=torch.uint8)
    return module(token_id_BT, mask_BTL)


@pytest.mark.parametrize("tie", [True, False])
def test_a_wider_model_computes_the_same(tie: bool) -> None:
    module = random_module(tie)
    wide = widened(module.double())
    assert wide.config.hidden_size == 16
    torch.testing.assert_close(full_logits(wide.double()), full_logits(module), rtol=1e-5, atol=1e-5)


def test_its_copies_learn_apart() -> None:
    wide = widened(random_module(True))
    full_logits(wide).square().mean().backward()
    gradient = wide.model.layers[0].mlp.gate_proj.weight.grad
    assert gradient is not None
    assert (gradient[:12] - gradient[12:]).abs().max() > 1e-3 * gradient.abs().max()
