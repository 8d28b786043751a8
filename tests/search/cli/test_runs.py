"""`duo-oracle runs`, and what a complete search leaves for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from duo_oracle import results
from duo_oracle.results.statistics.means import run_means
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes

Asks = Callable[..., SearchConfig]


def said(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> str:
    capsys.readouterr()
    assert main(["runs", *map(str, argv)]) == status
    out, err = capsys.readouterr()
    return err if status else out


def test_runs_lists_what_was_searched_and_show_shows_one(
    asks: Asks, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs"
    run_search(asks(out=str(folder / "whole"), budget="any,2"))
    with pytest.raises(KeyboardInterrupt):
        run_search(asks(out=str(folder / "half")), solve=fakes.is_interrupted)
    rows = {Path(row["run"]).name: row for row in json.loads(said(capsys, folder, "--format", "json"))}
    assert (rows["whole"]["state"], rows["half"]["state"]) == ("complete", "unfinished")
    means = run_means(results.load(folder / "whole"))["any"]
    assert {name: rows["whole"][name] for name in means} == pytest.approx(means)
    assert rows["half"]["gain"] is None
    monkeypatch.chdir(tmp_path)
    table = said(capsys)
    assert "whole" in table
    assert "unfinished" in table
    shown = said(capsys, "show", folder / "whole")
    for line in ("state                  complete", "budget                 any,2", "control at any"):
        assert line in shown
    assert said(capsys, folder, "--format", "markdown").startswith("| run | state |")


def test_no_run_is_said_and_bad_input_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run in" in said(capsys, tmp_path)
    assert "there is none at" in said(capsys, tmp_path / "nowhere", status=2)
    assert "takes one run directory" in said(capsys, "show", status=2)
    assert "holds run.json" in said(capsys, "show", tmp_path, status=2)
    assert "at least 0" in said(capsys, tmp_path, "--depth", "-1", status=2)
