"""Runs with a tolerance, held to brute force: no path is further from the best than is said, and tokens are saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.spaces import SearchSpace, parse_branches
from duo_oracle.results.answers.verify import verify
from duo_oracle.search.job import tolerant
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search.conftest import assert_same_tables, tables_of
from tests.small_models import all_patterns, plain_losses

Asks = Callable[..., SearchConfig]
TOLERANCE = 3.0  # nats: random models know little


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beam so narrow that it does not come to try every pattern of a small space."""
    monkeypatch.setattr(tolerant, "_BEAM", {"width": "1"})


@pytest.mark.parametrize("branches", ["sB", ".sB"])
@pytest.mark.parametrize("context", ["committed", "full", "sBs", "router:random:1.5"])
def test_every_path_is_as_near_the_best_as_it_says(asks_duo: Asks, duo: Path, context: str, branches: str) -> None:
    run_search(asks_duo(context=context, branches=branches, tolerance=TOLERANCE, budget="any,0-2", null_draws=2))
    run, model = results.load(asks_duo().out), load_model(read_checkpoint(str(duo)))
    patterns_PL = all_patterns(3, parse_branches(branches))
    table = run.tokens().merge(run.paths(), on=["sequence", "position"])
    n_let_be = 0
    for (_, budget), rows in table.groupby(["sequence", "budget"]):
        rows = rows.sort_values("position")
        ids = torch.tensor([*rows["token_id"], rows["target_id"].iloc[-1]])
        chosen_TL = np.array([RoutingPattern.parse(text, 3).branches for text in rows["pattern"]], dtype=np.uint8)
        context_TL = chosen_TL if context == "committed" else np.full_like(chosen_TL, Branch.BIG)
        if context == "sBs":
            context_TL[:] = RoutingPattern.parse("sBs", 3).branches
        if context.startswith("router"):
            context_TL = np.array([RoutingPattern.parse(text, 3).branches for text in rows["context_pattern"]], dtype=np.uint8)
        space = SearchSpace(3, parse_branches(branches), parse_budgets(str(budget), 3)[0])
        admitted_PL = patterns_PL[space.contains(patterns_PL)]
        for position, row in enumerate(rows.itertuples()):
            mask_PTL = np.repeat(context_TL[None], len(admitted_PL), axis=0)
            mask_PTL[:, position] = admitted_PL
            loss_P = plain_losses(model, ids, mask_PTL, SkipReading.FFN)[:, position]
            assert row.loss == pytest.approx(loss_P[(admitted_PL == chosen_TL[position]).all(axis=1)][0], abs=1e-4)
            assert loss_P.min() - 1e-4 <= row.loss <= loss_P.min() + row.certified_within + 1e-4
            assert row.certified_within == 0 if row.certified else row.loss <= row.certified_within <= TOLERANCE
            assert np.isfinite([row.entropy_full, row.null_gain]).all()
            n_let_be += not row.certified
    assert n_let_be > 0, "the test must meet tokens that need no tree"
    assert table["certified"].any()
    found = verify(run, model, None)
    assert found.passed, str(found)
    assert next(check for check in found.checks if check.name == "certified within").checked == n_let_be


def test_drawn_labels_are_as_near_as_real_ones(asks_duo: Asks, tmp_path: Path) -> None:
    base: dict[str, Any] = {"context": "full", "null_draws": 4, "budget": "any,1"}
    exact, near = asks_duo(**base, out=str(tmp_path / "exact")), asks_duo(**base, out=str(tmp_path / "near"), tolerance=TOLERANCE)
    run_search(exact), run_search(near)
    left, right = (results.load(config.out).paths() for config in (exact, near))
    let_be = ~right["certified"].to_numpy()
    assert let_be.any()
    behind = left["null_gain"].to_numpy() - right["null_gain"].to_numpy()
    assert (behind >= -1e-4).all()
    assert (behind <= TOLERANCE).all()
    np.testing.assert_allclose(behind[~let_be], 0, atol=1e-4)
    np.testing.assert_allclose(left["entropy_full"], right["entropy_full"], atol=1e-5)
    assert right["pattern"][~let_be].tolist() == left["pattern"][~let_be].tolist()


def test_warm_tokens_and_a_reference_go_with_a_tolerance(asks_duo: Asks, tmp_path: Path) -> None:
    base: dict[str, Any] = {"seq_len": 5, "stride": 2, "bos": "39", "reference": "self", "context": "full"}
    exact, near = asks_duo(**base, out=str(tmp_path / "exact")), asks_duo(**base, out=str(tmp_path / "near"), tolerance=4.0)
    run_search(exact), run_search(near)
    left, right = (results.load(config.out).paths() for config in (exact, near))
    assert (~right["certified"]).any()
    assert left[["sequence", "position"]].equals(right[["sequence", "position"]])
    assert (right["loss"] <= left["loss"] + right["certified_within"] + 1e-4).all()
    assert (right["ref_expected_gain"] <= left["ref_expected_gain"] + 1e-4).all()


@pytest.mark.parametrize("context", ["committed", "full"])
def test_a_run_without_a_tolerance_has_its_tables(asks: Asks, context: str, tmp_path: Path) -> None:
    plain, none = asks(context=context), asks(context=context, tolerance=0.0, out=str(tmp_path / "none"))
    run_search(plain), run_search(none)
    assert_same_tables(tables_of(plain.out), tables_of(none.out))
    assert "tolerance" not in json.loads((Path(plain.out) / "run.json").read_text())["identity"]
    assert (results.load(plain.out).paths()["certified_within"] == 0).all()


def test_a_proof_that_is_no_proof_is_found(asks_duo: Asks, duo: Path) -> None:
    run_search(asks_duo(context="full", tolerance=TOLERANCE))
    run, model = results.load(asks_duo().out), load_model(read_checkpoint(str(duo)))
    assert verify(run, model, None).passed
    run.manifest.identity["tolerance"] = 0.5  # as if it had been asked for
    found = verify(run, model, None)
    assert not found.passed
    assert found.checks[-1].name == "certified within"
    assert found.checks[-1].greatest > 1e-4


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tolerance": -0.1}, "0 or at least 0.0001 nats"),
        ({"tolerance": 1e-6}, "0 or at least 0.0001 nats"),
        ({"tolerance": float("nan")}, "0 or at least 0.0001 nats"),
        ({"tolerance": float("inf")}, "0 or at least 0.0001 nats"),
        ({"tolerance": 0.1, "strategy": "beam"}, "of an exhaustive search"),
        ({"tolerance": 0.1, "keep": "losses"}, "`keep='losses'` stores every pattern"),
        ({"tolerance": 0.1, "keep": "trials"}, "`keep='trials'` stores every pattern"),
        ({"tolerance": 0.1, "context": "same"}, "saves nothing"),
    ],
)
def test_a_tolerance_that_means_nothing_is_refused(asks: Asks, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="tolerance") as error:
        asks(**values)
    assert said in str(error.value)
