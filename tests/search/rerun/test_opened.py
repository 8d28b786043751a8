"""A run opened again: only with the model it was searched with, and then with its own text and question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duo_oracle import results
from duo_oracle.models.text.windows import data_fingerprint
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.results.store.writer import RunWriter
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.labels import read_labels
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.replay import read_groups

Asks = Callable[..., SearchConfig]


@pytest.mark.parametrize("context", ["full", "committed", "router:random:1"])
def test_the_text_and_the_question_are_those_of_the_search(asks_duo: Asks, context: str) -> None:
    config = asks_duo(context=context, budget="1,any", seed=3, null_draws=1)
    run_search(config)
    run = results.load(config.out)
    opened = open_run(run)
    assert data_fingerprint(opened.sequences) == run.identity["data_fingerprint"]
    problem = opened.problem
    assert problem.branches == (Branch.SMALL, Branch.BIG)
    assert problem.budgets == parse_budgets("1,any", run.n_letters)
    assert problem.context == run.parsed_context
    assert (problem.seed, problem.null_draws, opened.model.n_letters) == (3, 0, run.n_letters)


def test_groups_hold_the_paths_of_their_own_sequences(asks: Asks) -> None:
    config = asks(budget="1,any", unit_sequences=2)
    run_search(config)
    run = results.load(config.out)
    paths = run.paths().sort_values(["sequence", "position"])
    groups = list(read_groups(run, ("any",)))
    assert [len(group.sequences) for group in groups] == [2] * (len(groups) - 1) + [len(groups[-1].sequences)]
    for group in groups:
        for sequence, rows in group.rows():
            mine = paths[(paths["sequence"] == sequence.index) & (paths["budget"] == "any")]
            chosen = group.chosen["any"].at(rows)
            assert to_strings(chosen.branches_NL) == mine["pattern"].tolist()
            assert np.array_equal(chosen.loss_N, mine["loss"].to_numpy(np.float64))
            assert np.array_equal(chosen.loss_full_N, mine["loss_full"].to_numpy(np.float64))
            assert chosen.certified_N.all()
    assert sum(len(group.sequences) for group in read_groups(run, (), 3)) == 3


def test_a_model_of_other_weights_is_refused_by_whatever_opens_the_run(
    asks: Asks, duo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = asks(keep="losses")
    run_search(config)
    with pytest.raises(InputError, match=f"was searched with another model than {duo}, which has other weights"):
        open_run(results.load(config.out), str(duo))
    with pytest.raises(InputError, match="which has other weights"):
        read_labels((config.out,), str(duo))
    for command in ("compare", "controls", "strategies", "verify"):
        assert main([command, config.out, "--model", str(duo)]) == 2
        assert "which has other weights" in capsys.readouterr().err


def test_a_run_without_a_finished_unit_is_not_opened(tmp_path: Path) -> None:
    with RunWriter.open(tmp_path / "run", {"n_letters": 2, "budgets": ["any"], "context": "full"}):
        pass
    with pytest.raises(InputError, match="has no finished unit yet"):
        open_run(results.load(tmp_path / "run"))
