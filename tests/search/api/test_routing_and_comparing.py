"""Routers from Python: their choices as a table, and beside the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results import Run
from duo_oracle.search import compare, route, run_search
from duo_oracle.search.cli import main


@pytest.fixture(scope="module")
def run(duo: Path, duo_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "big"
    return run_search(duo, duo_tokens, out=out, context="big", budget="0-3", keep="losses", local=True, null_draws=1)


def test_choices_are_a_table_and_the_command_s_file(duo: Path, duo_tokens: Path, tmp_path: Path, run: Run) -> None:
    frame = route(duo, "random:2", duo_tokens, out=tmp_path / "mine.parquet")
    assert frame.equals(route(duo, "random:2", duo_tokens))
    assert list(frame.columns) == ["sequence", "position", "pattern"]
    assert len(frame) == run.n_tokens
    arguments = ["route", str(duo), "random:2", str(duo_tokens), "--out", str(tmp_path / "theirs.parquet")]
    assert main(arguments) == 0
    assert (tmp_path / "mine.parquet").read_bytes() == (tmp_path / "theirs.parquet").read_bytes()
    with pytest.raises(InputError, match=r"file \.parquet"):
        route(duo, "random:2", duo_tokens, out="mine.csv")


def test_a_comparison_has_the_command_s_lines(
    duo: Path, duo_tokens: Path, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    route(duo, "random:1", duo_tokens, out=tmp_path / "one.parquet")
    found = compare(run, ["random:2"], {"one": str(tmp_path / "one.parquet")})
    assert main(["compare", str(run.path), "--router", "random:2", "--routes", f"one={tmp_path / 'one.parquet'}"]) == 0
    assert str(found) == capsys.readouterr().out
    frame = found.table()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame[frame["kind"] == "router"]["name"]) == ["random:2", "one"]
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    assert "random:2" in found._repr_html_()
    again = compare(run.path, "random:2", f"one={tmp_path / 'one.parquet'}").table()
    assert np.array_equal(again["loss"], frame["loss"])


def test_work_in_this_process_leaves_its_threads_as_they_were(duo: Path, duo_tokens: Path, run: Run) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        route(duo, "random:2", duo_tokens)
        compare(run, "random:2")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bad_numbers_are_refused(run: Run) -> None:
    with pytest.raises(InputError, match="at least 1"):
        compare(run, "random:2", sample=0)


def test_options_of_route_are_the_command_s(duo: Path, duo_tokens: Path) -> None:
    frame = route(duo, "random:2", duo_tokens, max_sequences=1, per_document=1, skip="layer", route_layers="0-1")
    assert frame["sequence"].nunique() == 1
    assert frame["pattern"].str.len().eq(2).all()
    with pytest.raises(InputError, match="did you mean 'seq_len'"):
        route(duo, "random:2", duo_tokens, seqlen=3)
