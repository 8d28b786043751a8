"""The loss of a plain pass: its definition in float64, and the same of a model's every form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from duo_oracle.models.family import load_family
from duo_oracle.models.plain_losses import evaluate, plain_losses, window_losses
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle import model as oracle_model
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import losses_of
from duo_oracle.oracle.patterns import Branch

WINDOW = Window(0, "one", np.array([3, 1, 4, 1, 5, 9, 2, 6], dtype=np.int32))


def test_the_loss_of_a_token_that_is_all_but_certain_is_not_rounded_to_none() -> None:
    logits_NV = torch.tensor([[20.0, 0.0], [0.0, 20.0]])
    small = math.log1p(math.exp(-20))
    assert losses_of(logits_NV, torch.tensor([0, 0])).tolist() == pytest.approx([small, 20 + small], rel=1e-12)
    in_float32 = torch.nn.functional.cross_entropy(logits_NV[:1], torch.tensor([0]))
    assert in_float32.item() == 0.0, "what the definition would be in the logits' own dtype"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_float64_of_the_logits_as_they_are(dtype: torch.dtype) -> None:
    logits_BTV = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    target_BT = torch.tensor([[0, 7, 49], [3, 3, 3]])
    loss_BT = losses_of(logits_BTV, target_BT)
    assert loss_BT.dtype == torch.float64
    for b, t in np.ndindex(2, 3):
        z = [float(value) for value in logits_BTV[b, t]]
        plain = math.log(math.fsum(map(math.exp, z))) - z[target_BT[b, t]]
        assert loss_BT[b, t].item() == pytest.approx(plain, abs=1e-14)


def test_how_many_logits_are_held_at_once_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_NV, target_N = torch.randn(37, 101), torch.arange(37)
    at_once = losses_of(logits_NV, target_N)
    monkeypatch.setattr(oracle_model, "_LOGITS", 500)
    assert torch.equal(losses_of(logits_NV, target_N), at_once)


@pytest.mark.parametrize("skip", SkipReading)
def test_a_module_and_its_frozen_model_have_the_same_plain_losses(skip: SkipReading) -> None:
    family = load_family("duo_llama")
    config, tensors = family.random_checkpoint(0)
    module = family.build_module(config, tensors)
    frozen = family.build(config, tensors, torch.float32, torch.device("cpu"))
    mask_TL = np.random.default_rng(0).integers(3, size=(WINDOW.n_positions, module.n_letters)).astype(np.uint8)
    of_module, of_frozen = (window_losses(model, WINDOW, mask_TL, skip) for model in (module, frozen))
    assert of_module.shape == (WINDOW.n_positions,)
    assert of_module.dtype == np.float64
    assert of_frozen == pytest.approx(of_module, abs=1e-5)
    token_id_1T = torch.from_numpy(WINDOW.token_ids.astype(np.int64))[None]
    by_function = plain_losses(module, token_id_1T, lambda letter, _: torch.from_numpy(mask_TL)[None, :, letter], skip)
    assert by_function[0].tolist() == of_module.tolist()


def test_an_evaluation_is_the_mean_over_all_scored_positions_of_whole_windows() -> None:
    family = load_family("duo_llama")
    module = family.build_module(*family.random_checkpoint(0))
    short = Window(1, "two", WINDOW.token_ids[:4])
    found = evaluate(module, [WINDOW, short, WINDOW], max_tokens=8)
    assert found.n_tokens == WINDOW.n_positions + short.n_positions
    for loss, branch in ((found.loss_big, Branch.BIG), (found.loss_small, Branch.SMALL)):
        losses = [window_losses(module, one, np.full((one.n_positions, module.n_letters), branch)) for one in (WINDOW, short)]
        assert loss == pytest.approx(np.concatenate(losses).mean(), abs=1e-12)
