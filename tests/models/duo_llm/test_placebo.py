"""A big FFN without a true effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.placebo import with_placebo
from duo_oracle.models.families import duo_llama
from duo_oracle.models.family import load_model
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.cli import main


def outputs(config: dict, tensors: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """What the small and the big FFN of layer 0 add to some states."""
    model = duo_llama.build(config, tensors, torch.float32, torch.device("cpu"))
    x_RD = torch.randn(300, model.n_hidden, generator=torch.Generator().manual_seed(9))
    return model.ffn(0, Branch.SMALL, x_RD) - x_RD, model.ffn(0, Branch.BIG, x_RD) - x_RD


def test_the_fake_is_the_small_one_plus_noise_of_the_size_of_the_real_difference() -> None:
    config, tensors = duo_llama.random_checkpoint(0)
    small, big = outputs(config, tensors)
    fake_small, fake_big = outputs(config, with_placebo(config, tensors, seed=0))
    assert torch.equal(small, fake_small)
    size = (big - small).square().mean().sqrt()
    assert (fake_big - small).square().mean().sqrt() == pytest.approx(float(size), rel=0.35)
    double = outputs(config, with_placebo(config, tensors, seed=0, scale=2.0))[1]
    torch.testing.assert_close(double - small, 2 * (fake_big - small), rtol=1e-3, atol=1e-4)
    other = outputs(config, with_placebo(config, tensors, seed=1))[1]
    assert not torch.allclose(other, fake_big, atol=1e-3)


def test_without_noise_big_and_small_are_the_same() -> None:
    config, tensors = duo_llama.random_checkpoint(0)
    small, big = outputs(config, with_placebo(config, tensors, seed=0, scale=0.0))
    torch.testing.assert_close(small, big, rtol=1e-4, atol=1e-5)


def test_the_command_makes_a_model_directory_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tensors = duo_llama.random_checkpoint(0)
    write_checkpoint(tmp_path / "real", config, tensors, None, torch.float32)
    assert main(["placebo", str(tmp_path / "real"), "--out", str(tmp_path / "fake"), "--seed", "3"]) == 0
    fake = read_checkpoint(str(tmp_path / "fake"))
    assert load_model(fake).n_letters == config["num_hidden_layers"]
    assert fake.tensors.keys() == tensors.keys()
    assert main(["fake-big", str(tmp_path / "real"), "--out", str(tmp_path / "fake")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_has_no_big_ffn_to_replace_is_refused() -> None:
    config, tensors = duo_llama.random_checkpoint(0)
    for wrong, law in (({"model_type": "toy"}, "type duo_llama"), ({"intermediate_size": 1}, "wider than the small one")):
        with pytest.raises(ValueError, match=law):
            with_placebo({**config, **wrong}, tensors, 0)
    with pytest.raises(ValueError, match="0 or more"):
        with_placebo(config, tensors, 0, scale=-1.0)
