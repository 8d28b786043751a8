"""The list of runs: every run below a folder, whatever state it is in, from manifests alone and fast."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from duo_oracle import results
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.statistics.means import run_means
from duo_oracle.results.store.listing import facts_of, listed, run_directories
from tests.results.synthetic import Synthetic

VERSION_1 = Path(__file__).parent / "version1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> results.Run:
    return Synthetic(budgets="any,2").write(tmp_path_factory.mktemp("runs") / "one")


def test_runs_are_found_below_a_folder_and_not_inside_each_other(run: results.Run, tmp_path: Path) -> None:
    manifest = Path(run.path, "run.json").read_text()
    for name in ("a", "deep/er/b", ".hidden/c", "a/d", "1/2/3/4/5/e"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(manifest)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = [str(path.relative_to(tmp_path)) for path in run_directories(tmp_path)]
    assert found == ["a", "deep/er/b"]
    assert "1/2/3/4/5/e" in [str(path.relative_to(tmp_path)) for path in run_directories(tmp_path, 6)]
    assert list(run_directories(run.path)) == [run.path]
    with pytest.raises(InputError, match="there is none at"):
        list(run_directories(tmp_path / "nowhere"))


def test_a_row_says_what_the_manifest_says(run: results.Run) -> None:
    row = listed(run.path, run.path.parent)
    assert row["run"] == "one"
    assert row["tokens"] == run.n_tokens
    assert row["budget"] == "any,2"
    assert row["context"] == run.context
    assert row["state"] in ("complete", "unfinished")


def test_a_broken_manifest_is_a_row_and_a_run_of_version_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert listed(tmp_path / "broken", tmp_path) == {"run": "broken", "state": "unreadable"} | dict.fromkeys(
        ("model", "data", "context", "budget", "strategy", "tokens", "gain", "excess", "control", "at", "started")
    )
    old = listed(VERSION_1 / "full")
    assert (old["state"], old["context"]) == ("complete", "full")
    assert old["tokens"] == results.load(VERSION_1 / "full").n_tokens
    assert facts_of(VERSION_1 / "full")["layers routed"] == 4


def test_failed_units_are_the_state(run: results.Run, tmp_path: Path) -> None:
    values = json.loads(Path(run.path, "run.json").read_text())
    values["failed"] = [{"unit": 7, "message": "unit 7 is one too many"}]
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert listed(tmp_path)["state"] == "1 failed"
    assert facts_of(tmp_path)["failed unit 7"] == "unit 7 is one too many"


def test_means_are_those_of_the_tables(run: results.Run) -> None:
    means, frame = run_means(run), run.paths()
    for budget in ("any", "2"):
        mine = frame[frame["budget"] == budget]
        assert means[budget]["gain"] == pytest.approx((mine["loss_full"] - mine["loss"]).mean())
        assert means[budget]["excess"] == pytest.approx(mine["excess"].mean(), abs=1e-6)
        control = (mine["loss_full"] - mine["loss_cheapest"]).mean() - (mine["null_gain"] - mine["null_difficulty"]).mean()
        assert means[budget]["control"] == pytest.approx(control, abs=1e-6)
    assert means["any"]["gain"] >= means["2"]["gain"]


def test_a_thousand_runs_are_listed_in_two_seconds(run: results.Run, tmp_path: Path) -> None:
    manifest = Path(run.path, "run.json").read_text()
    for number in range(1000):
        folder = tmp_path / f"group {number % 10}" / f"run {number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(manifest)
    started = time.process_time()
    rows = [listed(path, tmp_path) for path in run_directories(tmp_path)]
    assert len(rows) == 1000
    assert time.process_time() - started < 2
