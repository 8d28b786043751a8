"""The families of the folder, and models of the one over transformers that differ in plan, pass the contract of a family."""

from __future__ import annotations

import pytest

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.family import family_names, load_family, load_model
from duo_oracle.models.testing import FamilyContract
from tests.models import pretrained_models


@pytest.mark.parametrize("name", [*family_names(), *pretrained_models.EACH_FAMILY])
class TestFamilies(FamilyContract):
    atol = dict.fromkeys(pretrained_models.FAMILIES, 1e-5)  # transformers' norms compute in float32 whatever the dtype is

    def random_checkpoint(self, name, seed):
        if name in pretrained_models.FAMILIES:
            return pretrained_models.random_checkpoint(name, seed)
        return super().random_checkpoint(name, seed)


@pytest.mark.parametrize("name", family_names())
def test_a_family_is_named_like_its_file(name):
    assert name == load_family(name).MODEL_TYPE


def test_unknown_names_are_answered_with_the_choices():
    config, tensors = load_family("toy").random_checkpoint(0)
    with pytest.raises(ValueError, match=r"unknown model_type 'gpt9'; transformers \S+ knows \d+ types .* as gptj, gpt2"):
        load_model(Checkpoint({**config, "model_type": "gpt9"}, tensors, None, ""))
    with pytest.raises(ValueError, match="unknown dtype 'int4'; available: float32, float64, bfloat16"):
        load_model(Checkpoint(config, tensors, None, ""), dtype="int4")
    with pytest.raises(ValueError, match="unknown device 'toaster'"):
        load_model(Checkpoint(config, tensors, None, ""), device="toaster")
