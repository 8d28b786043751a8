"""Lanes of unequal length, decided side by side: which tokens each step holds, and what a caller may and must do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.patterns import Branch
from tests.small_models import random_tokens, small_duo

FFN = SkipReading.FFN


def big(n: int, n_letters: int = 2) -> np.ndarray:
    return np.full((n, n_letters), Branch.BIG, dtype=np.uint8)


def test_every_scored_token_is_decided_once_with_its_target_and_equal_lengths_keep_their_order() -> None:
    model, tokens = small_duo(n_letters=2), [random_tokens(n, seed=n) for n in (3, 5, 2, 5)]
    seen = []
    for step in left_to_right(model, tokens, FFN):
        assert step.x_ND.shape == (len(step.lanes), model.n_hidden)
        assert step.target_N.tolist() == [tokens[lane][step.position + 1].item() for lane in step.lanes]
        seen.append(step.lanes)
        step.commit(big(len(step.lanes)))
    assert seen == [(1, 3, 0, 2), (1, 3, 0), (1, 3), (1, 3)]


def test_a_step_that_is_not_committed_is_no_silent_gap() -> None:
    with pytest.raises(AssertionError, match="committed before"):
        list(left_to_right(small_duo(n_letters=2), [random_tokens(3)], FFN))


def test_a_text_may_be_written_as_it_is_walked() -> None:
    model, whole = small_duo(n_letters=2), random_tokens(5)
    written = torch.zeros_like(whole)
    written[0] = whole[0]
    for given, drawn in zip(left_to_right(model, [whole], FFN), left_to_right(model, [written], FFN), strict=True):
        assert torch.equal(given.x_ND, drawn.x_ND)
        written[drawn.position + 1] = given.target_N[0]
        for step in (given, drawn):
            step.commit(big(1))
    assert torch.equal(written, whole)
