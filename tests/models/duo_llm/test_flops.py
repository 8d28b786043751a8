"""Operations per token: against torch's own count of a forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from duo_oracle.models.duo_llm.flops import flops_of
from duo_oracle.models.families import duo_llama
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

N_TOKENS = 8


@pytest.mark.parametrize("branch", [Branch.SMALL, Branch.BIG])
def test_they_are_those_that_torch_counts(branch: Branch) -> None:
    config, tensors = duo_llama.random_checkpoint(1)
    module = build_module(config, tensors)
    mask_BTL = torch.full((1, N_TOKENS, 3), int(branch))
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        module(torch.zeros(1, N_TOKENS, dtype=torch.long), mask_BTL)
    # torch multiplies the whole square of scores, and so is asked as if every token saw all others
    flops = flops_of(config, N_TOKENS, SkipReading.FFN)
    assert flops is not None
    assert N_TOKENS * flops.per_token(mask_BTL[0].numpy()) == counter.get_total_flops()


def test_a_skipped_layer_writes_keys_and_values_alone() -> None:
    config, _ = duo_llama.random_checkpoint(1)
    ffn, layer = (flops_of(config, 4.5, skip) for skip in (SkipReading.FFN, SkipReading.LAYER))
    assert ffn is not None
    assert layer is not None
    assert layer.skip == 2 * 2 * 16 * 2 * 4 < ffn.skip < ffn.small < ffn.big
    mask_NL = np.array([[0, 1, 2]], dtype=np.uint8)
    assert ffn.per_token(mask_NL) == ffn.head + ffn.skip + ffn.small + ffn.big


def test_another_family_is_not_guessed() -> None:
    assert flops_of({"model_type": "toy"}, 4.5, SkipReading.FFN) is None
