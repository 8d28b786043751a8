"""The hull of a router's points: by brute force over mixtures of two, and its mean over costs by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.compare.hull import ENDS, as_table, as_text, family_of, hulls, upper_hull
from duo_oracle.results.compare.plane import Plane, Routed


def test_the_hull_is_the_best_mixture_of_two_points_no_dearer() -> None:
    rng = np.random.default_rng(3)
    cost_P = np.array([0.0, 0.7, 1.0, 2.5, 4.0])
    gain_SP = rng.normal(size=(20, 5))
    found_SP = upper_hull(cost_P, gain_SP)
    for gain_P, found_P in zip(gain_SP, found_SP, strict=True):
        for at, cost in enumerate(cost_P):
            best = -np.inf
            for (c1, g1), (c2, g2) in itertools.product(zip(cost_P, gain_P, strict=True), repeat=2):
                for share in np.linspace(0, 1, 201):
                    if share * c1 + (1 - share) * c2 <= cost + 1e-9:
                        best = max(best, share * g1 + (1 - share) * g2)
            assert found_P[at] == pytest.approx(best, abs=0.02)
            assert found_P[at] >= best - 1e-9


def test_a_router_in_one_number_beside_those_that_are_none() -> None:
    unknown_KN = np.full((3, 6), np.nan)
    of_losses = {
        "loss_cheapest_N": np.full(6, 3.0),
        "loss_full_N": np.full(6, 2.0),
        "fixed_KN": np.outer([3.0, 2.8, 2.0], np.ones(6)),
    }
    plane = cast(
        Plane,
        SimpleNamespace(n_letters=2, document_N=np.arange(6) // 2, random_KN=unknown_KN, oracle_KN=unknown_KN, **of_losses),
    )
    one_big_NL = np.tile(np.array([Branch.SMALL, Branch.BIG], np.uint8), (6, 1))
    half = Routed("mine-1", one_big_NL, np.full(6, 2.1), *(np.full(6, np.nan),) * 3)
    found = {hull.name: hull for hull in hulls(plane, [half])}
    assert found[ENDS].aiq.mean == pytest.approx(0.5)  # a line from 0 to 1
    assert found["mine"].aiq.mean == pytest.approx((0.9 / 2 + 0.95) / 2)
    assert found["mine"].lead.mean == pytest.approx(found["mine"].aiq.mean - 0.5)
    assert found["best fixed"].aiq.mean == pytest.approx(0.5)  # below the line: mixing the ends is better
    assert found["mine"].aiq.low <= found["mine"].aiq.mean <= found["mine"].aiq.high
    table = as_table(found.values()).to_pylist()
    assert {row["cost"] for row in table if row["name"] == "mine"} == {0.0, 1.0, 2.0}
    assert "mine" in as_text(list(found.values()))


def test_budgets_at_the_end_of_a_name_are_of_one_family() -> None:
    assert {family_of(name) for name in ("a/b-4", "a/b-6.5", "a/b")} == {"a/b"}
