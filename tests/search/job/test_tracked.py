"""What a search tells a tracker at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from duo_oracle import results
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.kept_tracker import KeptTracker

Asks = Callable[..., SearchConfig]


def test_a_search_tells_its_curve(asks_duo: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptTracker()
    monkeypatch.setattr("duo_oracle.models.tracker.TRACKERS", kept)
    config = asks_duo(context="full", budget="any,1", track="wandb")
    run_search(config)
    (told,) = kept.runs
    ((step, values),) = told.logged
    run = results.load(config.out)
    assert step == run.n_tokens
    paths = run.paths()
    mine = paths[paths["budget"] == "1"]
    assert values["1/gain"] == pytest.approx((mine["loss_full"] - mine["loss"]).mean(), abs=1e-6)
    assert not [name for name in values if name.endswith(("_low", "_high"))]
    run_search(replace(config, track=None))  # it is no part of what the run is
    assert len(kept.runs) == told.closed == 1


def test_a_name_that_is_no_trackers_is_refused_before_any_work(asks_duo: Asks) -> None:
    with pytest.raises(InputError, match="unknown tracker 'nowhere'; available: wandb"):
        asks_duo(track="nowhere")
