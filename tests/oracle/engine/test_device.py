"""The paths of a GPU, run where there is none: the same answers, fewer launches, and no waiting inside a walk."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from duo_oracle.models.hf.arguments import Arguments, Call
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading, parse_context
from duo_oracle.oracle.engine import certify, device, exact, head
from duo_oracle.oracle.engine.device import resident
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.spaces import parse_branches
from tests.oracle.engine.test_exact import assert_equal_to_brute_force, solve
from tests.small_models import random_tokens, small_duo


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's own blocks and products, on the CPU; every tree is certified, in several blocks."""
    monkeypatch.setattr(certify, "together", lambda device: True)
    for module in (exact, head):
        monkeypatch.setattr(module, "at_once", lambda device, on_cpu, on_gpu: on_gpu)
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_GPU_ROWS", 64)


@pytest.mark.parametrize("branches", ["sB", ".sB"])
@pytest.mark.parametrize("context", ["committed", "same", "full"])
def test_positions_that_are_certified_together_have_the_same_answers(as_on_a_gpu: None, context: str, branches: str) -> None:
    token_ids = [random_tokens(n, seed=n) for n in (6, 4)]
    letters, budgets, where = parse_branches(branches), parse_budgets("0-3,any,atmost:2", 3), parse_context(context, 3)
    found = solve(ExactOracle(small_duo(), letters, budgets, SkipReading.FFN), where, token_ids)
    assert_equal_to_brute_force(small_duo(dtype=torch.float64), token_ids, letters, budgets, where, SkipReading.FFN, found)


def test_cuts_side_by_side_prove_as_much_with_as_few_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_TARGET_ROWS", 64)
    model, token_ids = small_duo(n_letters=7, n_vocabulary=60), random_tokens(6, 60)
    budgets = parse_budgets("any,0-7", 7)

    def paths(side_by_side: bool):
        monkeypatch.setattr(certify, "together", lambda device: side_by_side)
        oracle = ExactOracle(model, parse_branches("sB"), budgets, SkipReading.FFN, NullLabels(2))
        return oracle.in_fixed_context(0, token_ids, parse_context("full", 7).pattern)

    one_by_one, side_by_side = paths(False), paths(True)
    np.testing.assert_array_equal(one_by_one.branches_RL, side_by_side.branches_RL)
    np.testing.assert_allclose(one_by_one.loss_R, side_by_side.loss_R, atol=1e-5)
    np.testing.assert_allclose(one_by_one.null_gain_R, side_by_side.null_gain_R, atol=1e-5)
    assert abs(one_by_one.leaves_R.mean() - side_by_side.leaves_R.mean()) < 0.5
    assert one_by_one.leaves_R.max() < 128, "the bounds must rule leaves out"


def test_an_array_is_sent_once_and_goes_with_its_array() -> None:
    array, there = np.arange(5), torch.device("meta")
    before = len(device._sent)
    first = resident(array, there)
    assert resident(array, there) is first
    assert first.device == there
    assert len(device._sent) == before + 1
    del array
    gc.collect()
    assert len(device._sent) == before


def test_on_a_cpu_an_array_is_its_own_memory() -> None:
    array = np.arange(5)
    assert resident(array, torch.device("cpu")).data_ptr() == array.ctypes.data


def test_all_layers_of_a_walk_wait_once_for_their_positions() -> None:
    asked: list[int] = []
    arguments = Arguments(lambda n: [Call((torch.zeros(1, n, 1),), {})] * 3, 600, 3)
    reach = arguments._reach
    arguments._reach = lambda n: asked.append(n) or reach(n)  # type: ignore[func-returns-value, method-assign]
    for position in (7, 300):
        position_GS = torch.full((1, 1), position)
        for layer in range(3):
            arguments.at(layer, position_GS)
            arguments.hidden(layer, position_GS, 2)
    assert asked == [8, 301]
