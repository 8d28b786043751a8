"""Searches from Python: the command line's options by the same names, a run without a directory, a text without files."""

from __future__ import annotations

import gc
import inspect
import json
import tempfile
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results import load
from duo_oracle.search import SearchConfig, SearchFailed, run_search, solve
from duo_oracle.search.api.options import options_of
from duo_oracle.search.job import driver
from tests.search import fakes
from tests.search.conftest import assert_same_tables, tables_of

Asks = Callable[..., SearchConfig]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_search_from_python_is_the_command_s(toy: Path, tokens: Path, tmp_path: Path, asks: Asks) -> None:
    run = run_search(toy, tokens, out=tmp_path / "python", local=True, unit_sequences=1, budget=("any", 2), keep="losses")
    driver.run_search(asks(budget="any,2", keep="losses"))
    assert_same_tables(tables_of(run.path), tables_of(tmp_path / "run"))
    assert run.budgets == ("any", "2")


def test_the_same_call_goes_on_with_the_run(toy: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = partial(run_search, toy, tokens, out=tmp_path / "run", local=True, unit_sequences=1)
    with monkeypatch.context() as faulty:
        faulty.setattr(driver, "run_search", partial(driver.run_search, solve=fakes.fails_on_sequence_2))
        with pytest.raises(SearchFailed, match=r"1 of the run's units failed .* sequence 2 is one too many"):
            call()
    assert load(tmp_path / "run").manifest.failed
    run = call()
    assert run.manifest.state == "complete"
    assert not run.manifest.failed


def test_a_run_without_a_directory_is_gone_with_its_last_use(toy: Path, tokens: Path, scratch: Path) -> None:
    run = run_search(toy, tokens, local=True, max_sequences=2)
    assert run.path.is_relative_to(scratch)
    paths = run.paths()
    del run
    gc.collect()
    assert list(scratch.iterdir()) == []
    assert len(paths) > 0


def test_what_is_refused_leaves_no_directory(toy: Path, tokens: Path, scratch: Path) -> None:
    for wrong in ({"budget": "9"}, {"budgets": 3}, {"seq_len": 1}, {"address": "127.0.0.1:1"}):
        with pytest.raises(InputError):
            run_search(toy, tokens, local=True, **wrong)
    assert list(scratch.iterdir()) == []


def test_a_misspelt_option_is_told_its_neighbour(toy: Path, tokens: Path) -> None:
    with pytest.raises(InputError, match=r"unknown option 'budgets'; did you mean 'budget'\?"):
        run_search(toy, tokens, budgets=3)


def test_values_at_hand_are_written_as_the_command_line_has_them() -> None:
    ask = partial(options_of, SearchConfig)
    base = {"model": Path("m"), "data": "d", "out": Path("o")}
    assert ask({**base, "budget": 4}).budget == "4"
    assert ask({**base, "budget": range(3)}).budget == "0,1,2"
    assert ask({**base, "budget": ["any", "atmost:2"]}).budget == "any,atmost:2"
    assert ask({**base, "set": {"n": 64}, "strategy": "random_search", "keep": "trials"}).settings == {"n": "64"}
    assert ask({**base, "settings": {"n": 64}, "strategy": "random_search"}).settings == {"n": "64"}
    assert ask({**base, "max_sequences": "1k"}).max_sequences == 1000
    assert ask({**base, "max_sequences": np.int64(3), "budget": None}) == ask({**base, "max_sequences": 3})
    for wrong in ({"local": "yes"}, {"seed": 1.5}, {"seed": [1]}, {"memory": True}):
        with pytest.raises(InputError, match=f"`{next(iter(wrong))}`"):
            ask({**base, **wrong})


def test_help_and_completion_list_every_option() -> None:
    parameters = inspect.signature(run_search).parameters
    wanted = {field.metadata.get("flag", field.name) for field in fields(SearchConfig)}
    assert set(parameters) == wanted
    assert parameters["budget"].default == "any"
    for name in wanted - {"model", "data", "out"}:
        assert f"    {name}: " in (run_search.__doc__ or "")
    assert "out" not in inspect.signature(solve).parameters


def test_a_text_is_solved_without_a_file(toy: Path, scratch: Path, tmp_path: Path) -> None:
    token_ids = [3, 1, 4, 1, 5, 9, 2]
    frame = solve(toy, token_ids, budget="0-4", null_draws=0)
    assert list(scratch.iterdir()) == []
    assert list(frame["token_id"].unique()) == sorted(set(token_ids[:-1]), key=token_ids.index)
    assert len(frame) == 6 * 5
    file = tmp_path / "text.jsonl"
    file.write_text(json.dumps({"document": "text", "tokens": token_ids}))
    run = run_search(toy, file, out=tmp_path / "run", local=True, budget="0-4", null_draws=0)
    assert np.array_equal(frame["loss"], run.paths()["loss"])
    assert list(frame["pattern"]) == list(run.paths()["pattern"])


def test_several_texts_are_documents_of_their_own() -> None:
    frame = solve("duo-tiny", ["It was night.", "It was"], budget=0, null_draws=0)
    assert list(frame["document"].unique()) == ["text 0", "text 1"]
    alone = solve("duo-tiny", "It was", budget=0, null_draws=0)
    assert list(frame[frame["document"] == "text 1"]["loss"]) == pytest.approx(list(alone["loss"]), abs=1e-4)
    assert "".join([*alone["token"], alone["target"].iloc[-1]]) == "It was"


@pytest.mark.parametrize("text", ["", [], ["a", 1], [1.5, 2], [True, False]])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(InputError):
        solve("duo-tiny", text)


def test_solve_takes_no_option_of_files_and_workers(toy: Path) -> None:
    with pytest.raises(InputError, match="`workers` is an option of run_search"):
        solve(toy, [1, 2, 3], workers=2)
