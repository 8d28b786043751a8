"""The difficulty family: the views against pandas, groups and bands, and what a run lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from duo_oracle.oracle.patterns import Branch, branch_counts
from duo_oracle.results import Run
from duo_oracle.results.answers.difficulty import hardest
from duo_oracle.results.answers.difficulty_groups import groups_table, token_groups
from duo_oracle.results.measures import MEASURES, NEAR
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.search.cli import main
from tests.results.synthetic import Synthetic

WORK = Synthetic(length=40)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return WORK.write(tmp_path_factory.mktemp("runs") / "x")


def frame_of(run: Run, budget: int) -> pd.DataFrame:
    frame = run.paths().merge(run.tokens(), on=["sequence", "position"])
    floats = dict.fromkeys(("loss", "loss_cheapest", "loss_full", "excess", "null_difficulty"), float)
    return frame[frame["budget"] == str(budget)].astype(floats).sort_values(["sequence", "position"]).reset_index(drop=True)


def test_the_view_has_the_whole_family(run: Run) -> None:
    frame = frame_of(run, 2)
    view = run.sql("SELECT * FROM measures WHERE budget = 2 ORDER BY sequence, position")
    assert np.allclose(view["compute"], frame["loss_cheapest"] - frame["loss_full"], atol=1e-5)
    assert np.allclose(view["excess_difficulty"], frame["loss_cheapest"] - frame["loss"] - frame["null_difficulty"], atol=1e-5)
    assert np.allclose(view["entropy_full"], 1.0 + frame["position"])
    every = run.paths().astype({"loss": float})
    least = every.groupby(["sequence", "position"])["loss"].transform("min")
    near = every[every["loss"] <= least + NEAR].groupby(["sequence", "position"])["n_big"].min()
    assert view["least_big"].tolist() == near.tolist()


def test_slack_counts_the_patterns_near_the_best(run: Run) -> None:
    n_big_P = branch_counts(WORK.branches_PL, Branch.BIG)
    view = run.sql("SELECT * FROM slack ORDER BY sequence, position")
    loss_NP = np.concatenate([WORK.loss_NP(sequence) for sequence in range(12)])
    near_NP = loss_NP <= (loss_NP.min(axis=1) + np.float32(NEAR))[:, None]
    assert np.abs(view["slack"] - near_NP.sum(axis=1)).max() <= 1  # a loss just at the bound may round either way
    assert (view["slack"] == near_NP.sum(axis=1)).mean() > 0.99
    assert (view["slack_big"] == np.where(near_NP, n_big_P, 99).min(axis=1)).mean() > 0.99
    shown = hardest(run, 5, "slack", "2")
    assert [token.value for token in shown] == view["slack"].nlargest(5).tolist()


def test_slack_of_a_committed_run_is_of_the_budgets_own_pass(tmp_path: Path) -> None:
    work = Synthetic(context="committed", budgets="1,2")
    shown = token_groups(work.write(tmp_path / "x"), "document", ("slack",), "1")
    assert sum(group.n_tokens for group in shown) == 72
    assert all(group.means["slack"] is not None for group in shown)


def test_classes_follow_their_definitions(run: Run) -> None:
    frame = frame_of(run, 2)
    difficulty, small = frame["loss_cheapest"] - frame["loss"], frame["loss_cheapest"]
    expected = np.select(
        [small < 0.5, difficulty < 0.1 * small, frame["null_above"] == 0], ["easy", "stubborn", "reducible"], "within bias"
    )
    view = run.sql("SELECT class FROM measures WHERE budget = 2 ORDER BY sequence, position")
    assert view["class"].tolist() == expected.tolist()
    assert len(set(expected)) == 4


@pytest.mark.parametrize("group", ["document", "token-type", "position", "class", "surprise"])
def test_groups_share_out_all_tokens_and_have_document_intervals(run: Run, group: str) -> None:
    found = token_groups(run, group, ("difficulty", "loss_cheapest"), "2")
    frame = frame_of(run, 2)
    assert sum(each.n_tokens for each in found) == len(frame)
    assert sum(each.share.mean for each in found) == pytest.approx(1)
    mean = sum(each.n_tokens * each.means["difficulty"].mean for each in found) / len(frame)
    assert mean == pytest.approx(float((frame["loss_cheapest"] - frame["loss"]).mean()), abs=1e-5)
    if group == "surprise":
        assert [each.means["loss_cheapest"].mean for each in found] == sorted(each.means["loss_cheapest"].mean for each in found)


def test_a_groups_mean_is_the_bootstrap_of_its_tokens(run: Run) -> None:
    frame = frame_of(run, 2)
    early = {each.name: each for each in token_groups(run, "position", ("difficulty",), "2")}["8-15"]
    mine = frame["position"].between(8, 15)
    values_N = np.where(mine, frame["loss_cheapest"] - frame["loss"], np.nan)
    (expected,) = bootstrap(values_N[:, None], frame["document"].to_numpy())
    assert early.means["difficulty"].mean == pytest.approx(expected.mean, abs=1e-5)
    assert early.means["difficulty"].low == pytest.approx(expected.low, abs=1e-5)


def test_token_types_are_what_they_say(run: Run) -> None:
    types = {"number": 0, "white space": 0, "start of a word": 0, "word without a space before": 0, "punctuation and signs": 0}
    for each in token_groups(run, "token-type", ("loss",), "2"):
        types[each.name] += each.n_tokens
    targets = frame_of(run, 2)["target"]
    assert types["white space"] == targets.isin(["\n", "\t"]).sum()
    assert types["start of a word"] == targets.isin([" the", " tree", " end"]).sum()
    assert types["word without a space before"] == targets.isin(["a_b", "s"]).sum()


def test_a_missing_input_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Synthetic(keep=None, nulls=False, budgets="2").write(tmp_path / "x").path
    needs = {"excess": "--null-draws 4", "slack": "--keep losses", "least_big": "--budget 0-12", "hardness": "unknown measure"}
    for measure, need in needs.items():
        assert main(["difficulty", str(path), "--by", measure]) == 2
        said = capsys.readouterr().err
        assert need in said
        assert said.count("\n") == 1


def test_the_command_prints_bands_and_groups(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["difficulty", str(run.path), "--budget", "2", "--group", "class", "--within-surprise", "--by", "slack"]) == 0
    text = capsys.readouterr().out
    for said in ("within bands of all-small loss", "by class", "slack", "gain more than each", "no evidence"):
        assert said in text
    assert set(MEASURES) >= {"difficulty", "excess_difficulty", "entropy_full", "least_big", "slack", "slack_big"}
    assert "reducible" in str(groups_table(run, "class", budget="2"))
