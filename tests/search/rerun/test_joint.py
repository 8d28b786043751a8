"""The table joint holds routes of whole windows, with their losses by plain passes, never worse than what the run committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duo_oracle.models.plain_losses import window_losses
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.results import load
from duo_oracle.results.answers.joint import joint_gap
from duo_oracle.results.sql import query
from duo_oracle.results.store.columns import COLUMNS
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun import joint
from duo_oracle.search.rerun.joint import Asked, solve_joint
from duo_oracle.search.rerun.opened import OpenedRun, open_run

Asks = Callable[..., SearchConfig]
WARM = {"seq_len": 6, "stride": 3, "bos": "38", "per_document": 2}  # of the second windows' tokens two or three are warm

KNOWING = {"objective": "reference", "reference": "self", "reference_context": 4, "per_document": 2}


def searched(asks_duo: Asks, **values: Any) -> OpenedRun:
    config = asks_duo(
        **{"dtype": "float64", "route_layers": "0,2", "null_draws": 0, "budget": "any,1", "seq_len": 6, "per_document": 1, **values}
    )
    run_search(config)
    return open_run(load(config.out))


def masks(column: Any) -> np.ndarray:
    return np.array([RoutingPattern.parse(text).branches for text in column], dtype=np.uint8)


@pytest.mark.parametrize(
    "values", [{}, WARM, {"objective": "reference", "reference": "self", "reference_context": 4, "per_document": 2}]
)
@pytest.mark.parametrize("width", [0, 2])
def test_rows_are_plain_passes_and_never_worse_than_committed(asks_duo: Asks, values: dict[str, Any], width: int) -> None:
    opened = searched(asks_duo, **values)
    aim = "expected" if "objective" in values else "loss"
    for budget in opened.run.budgets:
        frame = solve_joint(opened, Asked(budget, width)).rows().to_pandas()
        assert len(frame) == opened.run.n_tokens
        low, high = opened.run.budget(budget).bounds(2)
        for window in opened.sequences:
            mine = frame[frame.sequence == window.index]
            for of, pattern in (("loss", mine.pattern), ("loss_committed", mine.pattern_committed)):
                loss_N = window_losses(opened.model, window, masks(pattern))
                np.testing.assert_allclose(mine[of], loss_N, atol=1e-9)
            full_NL = np.full((window.n_positions, 2), Branch.BIG, dtype=np.uint8)
            np.testing.assert_allclose(mine.loss_full, window_losses(opened.model, window, full_NL), atol=1e-9)
            assert mine[aim].sum() <= mine[f"{aim}_committed"].sum()
            assert low * len(mine) <= mine.cost.sum() <= high * len(mine)
    if aim == "loss":
        stored = opened.run.paths().query("budget == 'any'")
        committed = load(opened.run.path).joint().query(f"budget == 'any' and width == {width}")
        np.testing.assert_allclose(committed.loss_committed, stored.loss, atol=1e-5)


def test_a_wide_beam_finds_the_best_routes_of_windows(asks_duo: Asks) -> None:
    opened = searched(asks_duo, seq_len=5, per_document=1, max_sequences=2)
    for budget, n_big in (("any", None), ("1", 4)):
        frame = solve_joint(opened, Asked(budget, 300)).rows().to_pandas()
        for window in opened.sequences:
            mask_BNL = np.array(list(product((Branch.SMALL, Branch.BIG), repeat=8)), dtype=np.uint8).reshape(-1, 4, 2)
            if n_big is not None:
                mask_BNL = mask_BNL[(mask_BNL == Branch.BIG).sum(axis=(1, 2)) == n_big]
            least = min(window_losses(opened.model, window, mask_NL).sum() for mask_NL in mask_BNL)
            assert frame[frame.sequence == window.index].loss.sum() == pytest.approx(least, abs=1e-9)


def test_it_goes_on_where_it_was_stopped(asks_duo: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = searched(asks_duo)
    asked = Asked("any", 0)
    assert solve_joint(opened, asked, max_sequences=1).sequences == {0}
    done: list[int] = []
    plain = joint._of_window
    monkeypatch.setattr(joint, "_of_window", lambda *args: done.append(args[2].index) or plain(*args))
    whole = solve_joint(opened, asked).rows()
    assert done == [1, 2, 3]
    assert solve_joint(opened, asked).rows().equals(whole)
    assert whole.column_names == [column.name for column in COLUMNS["joint"]]


def test_the_answer_is_made_of_the_rows(asks_duo: Asks) -> None:
    opened = searched(asks_duo)
    with pytest.raises(InputError, match="duo-oracle joint"):
        query([opened.run], "joint_gap")
    frame = solve_joint(opened, Asked("1", 0)).rows().to_pandas()
    found = joint_gap(opened.run, "1", 0)
    assert found.expected is None
    assert found.loss.gap.mean == pytest.approx((frame.loss_committed - frame.loss).mean())
    assert found.loss.gap.mean >= 0
    assert found.loss.gain_joint.mean == pytest.approx((frame.loss_full - frame.loss).mean())
    assert found.loss.changed.mean == pytest.approx((frame.pattern != frame.pattern_committed).mean())
    (row,) = query([opened.run], "joint_gap").to_pylist()
    assert (row["budget"], row["tokens"]) == ("1", len(frame))
    assert row["gap"] == pytest.approx(found.loss.gap.mean)
    with pytest.raises(InputError, match="no joint routes under budget any"):
        joint_gap(opened.run, "any", 0)


def test_the_command(asks_duo: Asks, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = str(searched(asks_duo).run.path)
    assert main(["joint", run, "--budget", "1", "--max-sequences", "2"]) == 0
    assert "joint over committed" in capsys.readouterr().out
    assert main(["joint", run, "--width", "2", "--max-sequences", "1", "--format", "json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"joint"}
    full = str(searched(asks_duo, context="full", out=str(tmp_path / "full")).run.path)
    for bad in ([run, "--width", "-1"], [run, "--budget", "5"], [full]):
        assert main(["joint", *bad]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
