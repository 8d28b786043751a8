"""The joint oracle is the least of all windows' routes where its beam is whole, and never worse than what it began with."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.joint import JointProblem
from duo_oracle.oracle.engine.reference import reference_of
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch
from tests.small_models import random_tokens, small_duo

SB, ALL = (Branch.SMALL, Branch.BIG), tuple(Branch)


def all_routes(problem: JointProblem) -> np.ndarray:
    """Every route of the window under its total, mask_BNL."""
    n, n_letters = problem.n_tokens, problem.model.n_letters
    mask_BNL = np.array(list(product(problem.branches, repeat=n * n_letters)), dtype=np.uint8).reshape(-1, n, n_letters)
    cost_B = (mask_BNL == Branch.BIG).sum(axis=(1, 2))
    return mask_BNL[(problem.low <= cost_B) & (cost_B <= problem.high)]


def sums(problem: JointProblem, mask_BNL: np.ndarray, q_NV: torch.Tensor | None = None) -> np.ndarray:
    """The summed loss of every route by a plain forward pass, expected under q where that is given."""
    warm_BWL = np.full((len(mask_BNL), problem.n_warm, mask_BNL.shape[2]), Branch.BIG, dtype=np.uint8)
    mask_BTL = torch.from_numpy(np.concatenate([warm_BWL, mask_BNL], axis=1))
    token_id_BT = problem.token_id_T[None, :-1].expand(len(mask_BNL), -1)
    log_p_BNV = problem.model.forward(token_id_BT, mask_BTL, problem.skip)[:, problem.n_warm :].double().log_softmax(dim=2)
    if q_NV is None:
        q_NV = torch.nn.functional.one_hot(problem.token_id_T[problem.n_warm + 1 :], log_p_BNV.shape[2]).double()
    return -(log_p_BNV * q_NV).sum(dim=(1, 2)).numpy()


def toy(case: str, low: int = 0, high: int = 99) -> JointProblem:
    deep = small_duo(3, n_letters=4, dtype=torch.float64)
    model: OracleModel = SomeLayersRouted(deep, (1, 2)) if case == "skips" else small_duo(2, n_letters=3, dtype=torch.float64)
    if case == "skips":  # of two layers of four, with all branches, behind two warm tokens
        return JointProblem(model, random_tokens(6, seed=1), ALL, low, high, SkipReading.LAYER, n_warm=2)
    return JointProblem(model, random_tokens(5, seed=4), SB, low, high)


@pytest.mark.parametrize(("low", "high"), [(0, 99), (5, 5), (0, 3)])
@pytest.mark.parametrize("case", ["four tokens of three layers", "skips"])
def test_a_whole_beam_is_brute_force(case: str, low: int, high: int) -> None:
    problem = toy(case, low, high)
    mask_BNL = all_routes(problem)
    sum_B = sums(problem, mask_BNL)
    start = problem.route(mask_BNL[len(mask_BNL) // 2])
    assert start.loss_N.sum() == pytest.approx(sum_B[len(mask_BNL) // 2], abs=1e-9)
    found = problem.beam(start, width=1 << 12)
    assert found.loss_N.sum() == pytest.approx(sum_B.min(), abs=1e-9)
    assert np.array_equal(found.mask_NL, mask_BNL[int(sum_B.argmin())])


@pytest.mark.parametrize(("low", "high"), [(0, 99), (6, 6)])
def test_under_a_reference_it_is_brute_force_of_the_expected_loss(low: int, high: int) -> None:
    plain = toy("four tokens of three layers", low, high)
    log_q_NV = (2 * torch.randn((4, 40), generator=torch.Generator().manual_seed(1), dtype=torch.float64)).log_softmax(dim=1)
    reference = reference_of(Head(plain.model), log_q_NV, plain.token_id_T[1:])
    problem = JointProblem(plain.model, plain.token_id_T, SB, low, high, reference=reference)
    mask_BNL = all_routes(problem)
    sum_B = sums(problem, mask_BNL, log_q_NV.exp())
    start = problem.route(mask_BNL[7])
    assert problem.beam(start, width=1 << 12).loss_N.sum() == pytest.approx(sum_B.min(), abs=1e-9)
    descended = problem.descend(start)
    assert sum_B.min() - 1e-9 <= descended.loss_N.sum() <= start.loss_N.sum()


@pytest.mark.parametrize(("low", "high"), [(0, 99), (5, 5), (0, 3)])
@pytest.mark.parametrize("case", ["four tokens of three layers", "skips"])
def test_descent_and_narrow_beams_are_never_worse_and_within_the_total(case: str, low: int, high: int) -> None:
    problem = toy(case, low, high)
    mask_BNL = all_routes(problem)
    sum_B = sums(problem, mask_BNL)
    found_best = 0
    for row in range(0, len(mask_BNL), len(mask_BNL) // 2 + 1):
        start = problem.route(mask_BNL[row])
        for route in (problem.descend(start), problem.beam(start, width=1), problem.beam(start, width=3)):
            assert problem.admits(route.cost)
            assert sum_B.min() - 1e-9 <= route.loss_N.sum() <= start.loss_N.sum()
            assert route.loss_N.sum() == pytest.approx(sums(problem, route.mask_NL[None])[0], abs=1e-9)
        descended = problem.descend(start)
        different_B = (mask_BNL != descended.mask_NL).sum(axis=(1, 2))
        assert sum_B[different_B == 1].min(initial=np.inf) > descended.loss_N.sum() - 1e-5  # no single change lowers it
        found_best += bool(descended.loss_N.sum() < sum_B.min() + 1e-6)
    assert found_best  # from one of the starts, the best of all


def test_the_best_route_begun_with_is_kept() -> None:
    problem = toy("four tokens of three layers")
    mask_BNL = all_routes(problem)
    best = problem.route(mask_BNL[int(sums(problem, mask_BNL).argmin())])
    assert problem.descend(best) is best
    assert problem.beam(best, width=1) is best
