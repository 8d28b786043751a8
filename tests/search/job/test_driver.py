"""The driver in this process: the same tables whatever happens on the way, and every failure said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duo_oracle import results
from duo_oracle.models.families.toy import best_pattern, random_toy, write_toy
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.results.store.writer import RunWriter
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.job.pool import plan_units
from tests.search import fakes
from tests.search.conftest import N_SEQUENCES, assert_same_tables, tables_of

Asks = Callable[..., SearchConfig]


def test_the_oracle_of_a_toy_is_the_known_optimum(asks: Asks) -> None:
    run_search(asks(budget="any,2", null_draws=0))
    run = results.load(asks().out)
    frame = run.sql("SELECT * FROM oracle")
    toy = random_toy(seed=3, n_letters=4, n_vocabulary=16, n_positions=12, interaction=1.0)
    for row in frame.itertuples():
        (budget,) = parse_budgets(row.budget, 4)
        assert row.pattern == str(best_pattern(toy, row.token_id, row.target_id, budget=budget))
        assert row.certified


def test_size_of_units_changes_no_row(asks: Asks, tmp_path: Path) -> None:
    frames = []
    for size in (1, 3, 64):
        config = asks(unit_sequences=size, out=str(tmp_path / str(size)), keep="losses")
        run_search(config)
        frames.append(results.load(config.out))
    for run in frames[1:]:
        assert run.paths().equals(frames[0].paths())
        assert run.tokens().equals(frames[0].tokens())


def test_a_run_goes_on_where_it_was_interrupted(asks: Asks, tmp_path: Path) -> None:
    whole = asks(out=str(tmp_path / "whole"))
    run_search(whole, solve=fakes.solves)
    with pytest.raises(KeyboardInterrupt):
        run_search(asks(), solve=fakes.is_interrupted)
    assert results.load(asks().out).manifest.state == "running"
    outcome = run_search(asks(), solve=fakes.solves)
    assert outcome.solved == N_SEQUENCES - 1
    assert_same_tables(tables_of(whole.out), tables_of(asks().out))


def test_a_complete_run_is_left_alone(asks: Asks) -> None:
    run_search(asks(), solve=fakes.solves)
    before = (Path(asks().out) / "run.json").read_bytes()
    assert run_search(asks(), solve=fakes.fails_on_sequence_2).solved == 0
    assert (Path(asks().out) / "run.json").read_bytes() == before


def test_a_run_whose_last_unit_was_its_last_breath_becomes_complete(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: RunWriter, *facts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunWriter, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run_search(asks(), solve=fakes.solves)
    assert run_search(asks(), solve=fakes.fails_on_sequence_2).solved == 0
    assert results.load(asks().out).manifest.state == "complete"


def test_another_question_is_refused_and_overwrite_replaces(asks: Asks) -> None:
    run_search(asks(), solve=fakes.solves)
    with pytest.raises(ValueError, match=r"seed 0, not 1.*`overwrite`"):
        run_search(asks(seed=1), solve=fakes.solves)
    run_search(asks(seed=1, overwrite=True), solve=fakes.solves)
    assert results.load(asks().out).identity["seed"] == 1


@pytest.mark.parametrize("changed", ["model", "data"])
def test_a_changed_model_or_data_is_another_question(asks: Asks, changed: str, tmp_path: Path, toy: Path, tokens: Path) -> None:
    run_search(asks(), solve=fakes.solves)
    if changed == "model":
        write_toy(tmp_path / "other", seed=4, n_letters=4, n_vocabulary=16, n_positions=12)
        other = asks(model=str(tmp_path / "other"))
    else:
        (tmp_path / "other.jsonl").write_text(tokens.read_text().replace("[", "[0, ", 1))
        other = asks(data=str(tmp_path / "other.jsonl"))
    with pytest.raises(ValueError, match=f"{changed}_fingerprint"):
        run_search(other, solve=fakes.solves)


def test_a_failing_unit_is_named_and_all_else_is_kept(asks: Asks, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = run_search(asks(), solve=fakes.fails_on_sequence_2, notify=said.append)
    (failure,) = outcome.failures
    assert (failure.unit, outcome.solved) == (2, N_SEQUENCES - 1)
    assert failure.message == "unit 2 (sequence 2, of book 1): ArithmeticError: sequence 2 is one too many"
    assert failure.message in said[0]
    assert "fails_on_sequence_2" in failure.traceback
    run = results.load(asks().out)
    assert run.manifest.state == "running"
    assert run.manifest.failed == {2: failure.message}
    assert set(run.paths()["sequence"]) == set(range(N_SEQUENCES)) - {2}
    assert not list(Path(asks().out).rglob("*.tmp*"))
    # the same command tries it again
    again = run_search(asks(), solve=fakes.solves)
    assert (again.solved, again.failures) == (1, ())
    whole = asks(out=str(tmp_path / "whole"))
    run_search(whole, solve=fakes.solves)
    assert_same_tables(tables_of(whole.out), tables_of(asks().out))
    assert results.load(asks().out).manifest.state == "complete"


def test_units_are_planned_lazily_and_hold_whole_sequences() -> None:
    taken = []

    def endless() -> Iterator[Window]:
        for index in range(10**9):
            taken.append(index)
            yield Window(index, "d", np.zeros(3, np.int32))

    units = plan_units(endless(), 3)
    assert [[s.index for s in next(units).sequences] for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    assert len(taken) == 6


def test_the_run_says_what_it_was_asked(asks: Asks) -> None:
    config = asks(budget="0-2", keep="losses", settings={})
    run_search(config)
    stored = json.loads((Path(config.out) / "run.json").read_text())
    assert stored["config"]["budget"] == "0-2"
    assert stored["config"]["seq_len"] == 12
    assert stored["identity"]["budgets"] == ["0", "1", "2"]
    assert {"python", "torch", "ray"} <= set(stored["versions"])


@pytest.mark.parametrize("values", [{"context": "same"}, {"strategy": "random_search", "keep": "trials"}, {"branches": ".sB"}])
def test_searching_twice_gives_equal_tables(asks: Asks, tmp_path: Path, values: dict[str, Any]) -> None:
    first, second = asks(**values), asks(**values, out=str(tmp_path / "second"))
    run_search(first)
    run_search(second)
    assert_same_tables(tables_of(first.out), tables_of(second.out))
