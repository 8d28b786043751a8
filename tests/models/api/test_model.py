"""A model in a notebook: what it says of itself, and what it loses on a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle.models import Model, open_model, write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search import solve

TEXT = "It is a truth universally acknowledged, that a single man"


@pytest.fixture(scope="module")
def tiny() -> Model:
    return open_model("duo-tiny")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Small and random, without a tokenizer."""
    directory = tmp_path_factory.mktemp("model") / "bare"
    write_checkpoint(directory, *duo_llama.random_checkpoint(1), None, torch.float32)
    return open_model(directory)


def test_the_loss_of_a_pattern_is_that_of_a_search_of_it_alone(tiny: Model) -> None:
    small = solve("duo-tiny", TEXT, context="same", budget=0, null_draws=0)
    assert len(small) == len(tiny.encode(TEXT)) - 1
    assert tiny.loss(TEXT, "s" * 12) == pytest.approx(small["loss"].mean(), abs=1e-5)
    big = solve("duo-tiny", TEXT, context="same", budget=12, null_draws=0)
    assert tiny.loss(tiny.encode(TEXT)) == pytest.approx(big["loss"].mean(), abs=1e-5)


def test_a_skipped_layer_can_be_read_in_two_ways(bare: Model) -> None:
    n = bare.oracle_model.n_letters
    losses = {bare.loss([1, 2, 3, 4], "." * n, skip) for skip in ("ffn", "layer")}
    assert len(losses) == 2


def test_a_model_says_what_it_is(tiny: Model, bare: Model) -> None:
    assert repr(tiny).startswith("<Model 'duo-tiny': family duo_llama, layers 12, routed 0-11, branches .sB")
    assert f"{tiny.n_parameters:,}" in tiny._repr_html_()
    assert tiny.n_parameters == sum(int(np.prod(tensor.shape)) for tensor in tiny.checkpoint.tensors.values())
    assert tiny.fingerprint != bare.fingerprint


def test_some_layers_may_be_routed() -> None:
    some = open_model("duo-tiny", route_layers="3-5")
    assert some.oracle_model.n_letters == 3
    assert some.loss(TEXT) == open_model("duo-tiny").loss(TEXT)


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("words", {}, "no tokenizer.json"),
        ([1], {}, "2 to"),
        ([1, -1], {}, "token ids lie between"),
        ([1, 2], {"pattern": "B"}, "letters"),
        ([1, 2], {"pattern": "x" * 4}, "letters"),
        ([1, 2], {"skip": "all"}, "unknown reading of skip"),
    ],
)
def test_what_has_no_loss_is_refused(bare: Model, text: str | list[int], more: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        bare.loss(text, **more)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no"):
        open_model(tmp_path / "nothing")
