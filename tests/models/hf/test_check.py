"""The check at opening: planted faults are refused with the number and the module; what passed is remembered, and safe to lose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.hf import calls
from duo_oracle.models.hf.any_decoder import frozen
from duo_oracle.models.hf.arguments import Arguments
from duo_oracle.models.hf.check import check, checked
from duo_oracle.models.hf.library import twin
from duo_oracle.models.hf.pretrained import PretrainedModel, PretrainedModule
from duo_oracle.oracle.base.errors import InputError
from tests.models.hf.tiny import save_tiny, tiny_model


def opened(name: str) -> tuple[PretrainedModel, Any]:
    """A model as it is run here, and the library's own over the same tensors."""
    module = PretrainedModule(tiny_model(name), {})
    return frozen(module), twin(module.model, module.own_attention)


def no_mask(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Arguments, "hidden", lambda *_: None)


def no_softcap_of_scores(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls, "_capped", lambda scores, softcap: scores)


def no_softcap_of_logits(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    model.logit_softcap = None


def no_sinks(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    own = calls._candidates
    patch.setattr(calls, "_candidates", lambda *args: own(*args[:-1], None))


def a_position_off_by_one(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    own = Arguments.at
    patch.setattr(Arguments, "at", lambda self, layer, position_GS: own(self, layer, position_GS + (position_GS.shape[1] == 1)))


def a_scale_lost(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    trunk = model.module.trunk
    trunk.form = replace(trunk.form, scale=1.0)


def one_weight_changed(model: PretrainedModel, patch: pytest.MonkeyPatch) -> None:
    layer = model.module.layers[2]
    parameter = layer.mlp.down_proj.weight
    changed = parameter.detach().clone()
    changed[0] += 1.0
    layer.mlp.down_proj.weight = torch.nn.Parameter(changed, requires_grad=False)


@pytest.mark.parametrize(
    ("name", "plant", "where"),
    [
        ("Mistral 0.1 (window)", no_mask, "model.layers.0 (MistralDecoderLayer)"),
        ("Llama 4 (chunks)", no_mask, "model.layers"),
        ("Gemma 2 (softcaps, windows)", no_softcap_of_scores, "model.layers.0 (Gemma2DecoderLayer)"),
        ("Gemma 2 (softcaps, windows)", no_softcap_of_logits, "the vocabulary head"),
        ("gpt-oss (sinks)", no_sinks, "model.layers.0 (GptOssDecoderLayer)"),
        ("Llama 2", a_position_off_by_one, "model.layers.0 (LlamaDecoderLayer)"),
        ("Granite", a_scale_lost, "the vocabulary head"),
        ("Llama 2", one_weight_changed, "model.layers.2 (LlamaDecoderLayer)"),
    ],
)
def test_a_planted_fault_is_refused_with_the_number_and_the_module(
    name: str, plant: Callable[[PretrainedModel, pytest.MonkeyPatch], None], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stock = opened(name)
    assert check(model, stock) < 1e-5
    plant(model, monkeypatch)
    with pytest.raises(InputError, match=r"losses differ by [0-9.e+-]+ nats on 16 tokens, first in ") as refusal:
        check(model, stock)
    assert f"first in {where}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_passed_is_remembered_by_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUO_ORACLE_CACHE", str(tmp_path / "cache"))
    model, stock = opened("Llama 2")
    first, again, other = (checked(model, stock, fingerprint) for fingerprint in ("one", "one", "two"))
    assert (first.remembered, again.remembered, other.remembered) == (False, True, False)
    assert (first.error, first.seconds) == (again.error, again.seconds)
    file = tmp_path / "cache" / "checked.json"
    assert len(json.loads(file.read_text())) == 2
    for spoilt in ("{", "[1]", '{"a": {"error": "x"}}'):
        file.write_text(spoilt)
        assert not checked(model, stock, "one").remembered


def test_a_model_that_failed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUO_ORACLE_CACHE", str(tmp_path / "cache"))
    model, stock = opened("Llama 2")
    one_weight_changed(model, monkeypatch)
    for _ in range(2):
        with pytest.raises(InputError, match="nats"):
            checked(model, stock, "one")


def test_opening_says_what_the_check_found(tmp_path: Path) -> None:
    save_tiny("Phi", tmp_path)
    said: list[str] = []
    load_model(read_checkpoint(str(tmp_path)), say=said.append)
    assert "equal to transformers' own model to" in said[0]


def test_weights_whose_pass_overflows_are_one_line() -> None:
    stock = tiny_model("Llama 2")
    stock.lm_head.weight.mul_(1e38)
    stock.model.norm.weight.mul_(1e10)
    with pytest.raises(InputError, match="logits are finite numbers"):
        PretrainedModule(stock, {})
