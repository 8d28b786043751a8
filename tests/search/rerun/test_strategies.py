"""Strategies beside an exact run: the oracle's own numbers come back, and every context says the same thing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from duo_oracle import results
from duo_oracle.results.statistics.regret import regret_line
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.strategies import compare, parse_candidate
from tests.models.hf.tiny import save_tiny
from tests.search.conftest import N_DOCUMENTS

Asks = Callable[..., SearchConfig]
ALL = [parse_candidate(text) for text in ("greedy", "beam:width=99", "layerwise", "additive:top=99", "mcts", "random_search:n=3")]


@pytest.mark.slow
@pytest.mark.parametrize("context", ["full", "same", "BsBs", "committed"])
@pytest.mark.parametrize("keep", ["losses", pytest.param("none", marks=pytest.mark.long)])
def test_the_widest_search_has_no_regret_and_none_has_less(asks: Asks, context: str, keep: str) -> None:
    config = asks(context=context, keep=keep, budget="2,any", null_draws=0, unit_sequences=3)
    run_search(config)
    run = results.load(config.out)
    found = compare(open_run(run), ALL, run.budgets, None, seed=0)
    assert found.certified
    assert set(found.exact_tokens_per_second) == {"2", "any"}
    assert found.n_tokens == run.n_tokens
    assert len(found.outcomes) == 2 * len(ALL)
    for outcome in found.outcomes:
        line = regret_line(outcome)
        assert (outcome.loss_N >= outcome.reference_N - 1e-5).all()
        assert line.regret.n_documents == N_DOCUMENTS
        if outcome.strategy in ("beam:width=99", "mcts", "additive:top=99"):
            assert line.regret.mean == pytest.approx(0, abs=1e-5)
            assert line.exact.mean == 1.0
        assert outcome.best_NE[:, -1] == pytest.approx(outcome.loss_N)


@pytest.mark.long
def test_random_patterns_are_expected_as_they_are_drawn(asks: Asks) -> None:
    config = asks(context="full", keep="losses", budget="any", null_draws=0)
    run_search(config)
    run = results.load(config.out)
    means = []
    for seed in range(30):
        (outcome,) = compare(open_run(run), [parse_candidate("random_search:n=4")], ("any",), None, seed=seed).outcomes
        means.append(outcome.loss_N.mean())
    assert np.mean(means) == pytest.approx(outcome.random_N.mean(), abs=4 * np.std(means) / np.sqrt(30) + 1e-3)


def test_where_no_oracle_is_exact_the_best_found_is_the_reference(asks: Asks) -> None:
    config = asks(context="full", strategy="random_search", settings={"n": "2"}, budget="any")
    run_search(config)
    run = results.load(config.out)
    found = compare(open_run(run), [parse_candidate("greedy"), parse_candidate("beam")], ("any",), None, seed=0)
    assert not found.certified
    assert found.exact_tokens_per_second == {}
    assert "none is exact" in found.heading(run.context)
    least_N = np.min([outcome.loss_N for outcome in found.outcomes], axis=0)
    assert (found.outcomes[0].reference_N <= least_N).all()
    assert (found.outcomes[0].reference_N < least_N - 1e-6).mean() < 0.2


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws_a_plot(asks: Asks, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = asks(context="same", keep="losses", budget="1,2", null_draws=0)
    run_search(config)
    plot = tmp_path / "regret.svg"
    assert main(["strategies", config.out, "--plot", str(plot), "--strategy", "greedy", "--strategy", "beam:width=2"]) == 0
    out = capsys.readouterr().out
    assert "regret against the exact oracle" in out
    assert plot.read_text().startswith("<?xml")
    assert main(["strategies", config.out, "--budget", "2", "--format", "csv", "--max-sequences", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["strategy"] for row in rows] == ["greedy", "beam", "layerwise", "additive", "mcts"]


def test_the_landscape_of_a_run_is_printed(asks: Asks, capsys: pytest.CaptureFixture[str]) -> None:
    config = asks(context="full", keep="losses", null_draws=0)
    run_search(config)
    assert main(["landscape", config.out]) == 0
    assert "share of variance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strategy", "bean"], "did you mean 'beam'"),
        (["--strategy", "beam:width"], "NAME:KEY=VALUE"),
        (["--strategy", "beam:size=3"], "unknown setting of strategy beam 'size'"),
        (["--strategy", "exhaustive"], "without being named"),
        (["--strategy", "optuna:scope=fixed"], "per token"),
        (["--strategy", "layerwise:start=sB"], "4 letters"),
        (["--budget", "7"], "not searched under budget '7'"),
        (["--plot", "plot.gif"], ".svg, .png or .pdf"),
        (["--max-sequences", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    asks: Asks, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    config = asks(context="full", max_sequences=1, null_draws=0)
    run_search(config)
    assert main(["strategies", config.out, *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_regret_table_of_a_mixture_of_unequal_costs_is_that_of_its_kept_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    save_tiny("Mixtral", tmp_path / "model")
    tokens = np.random.default_rng(0).integers(3, 60, (2, 5)).tolist()
    pd.DataFrame({"document": ["a", "b"], "tokens": tokens}).to_parquet(tmp_path / "tokens.parquet")
    argv = ["search", tmp_path / "model", tmp_path / "tokens.parquet", "--branches", "top:0,1,2,4", "--route-layers", "0-2"]
    argv += ["--context", "full", "--budget", "any,0-12,atmost:5", "--keep", "losses", "--null-draws", "0", "--local"]
    run = tmp_path / "run"
    assert main([*map(str, argv), "--out", str(run)]) == 0
    assert "11" not in results.load(run).budgets  # 0, 1, 2 and 4 do not add up to it
    losses = results.load(run).losses().astype({"pattern": str, "loss": float})
    table = losses.pivot(index=["sequence", "position"], columns="pattern", values="loss").to_numpy()
    cost_P = np.array([sum(map(int, pattern)) for pattern in sorted(losses["pattern"].unique())])
    costs = np.unique(cost_P)
    least_KN = np.stack([table[:, cost_P == cost].min(axis=1) for cost in costs])
    exact = {"any": table.min(axis=1).mean(), "5": least_KN[5].mean(), "atmost:5": table[:, cost_P <= 5].min(axis=1).mean()}
    spent = {0: np.zeros(1)}  # by what the tokens before spent together, the least loss of every assignment of costs to them
    for least_K in least_KN.T:
        after: dict[int, np.ndarray] = {}
        for before, loss in spent.items():
            for cost, more in zip(costs.tolist(), least_K, strict=True):
                after[before + cost] = np.minimum(after.get(before + cost, np.inf), loss + more)
        spent = after
    total, n_tokens = 5 * len(table), len(table)
    lines = [(low, high) for low in spent for high in spent if low <= total <= high]
    shares = [0.0 if low == high else (total - low) / (high - low) for low, high in lines]
    whole = [(1 - w) * spent[low][0] + w * spent[high][0] for w, (low, high) in zip(shares, lines, strict=True)]
    exact["average:5"] = min(whole) / n_tokens
    capsys.readouterr()
    argv = ["strategies", str(run), *(word for budget in exact for word in ("--budget", budget)), "--format", "json"]
    assert main([*argv, "--strategy", "greedy", "--strategy", "beam:width=64", "--strategy", "layerwise"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["budget"], row["strategy"]) for row in rows] == [
        (budget, name) for budget in exact for name in ("greedy", "beam:width=64", "layerwise")
    ]
    for row in rows:
        assert row["regret"] >= -1e-5
        assert row["strategy"] != "beam:width=64" or row["regret"] == pytest.approx(0, abs=1e-5)
        assert (row["random_regret"] is None) == row["budget"].startswith("average")
    assert main(["curve", str(run), "--average", "5", "--format", "json"]) == 0
    curve = {row["budget"]: row["oracle"] for row in json.loads(capsys.readouterr().out)}
    assert {name: curve[name] for name in exact} == pytest.approx(exact, abs=1e-5)
    assert main(["landscape", str(run), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["share_of_variance"] for row in rows if row["part"] == "order") == pytest.approx(1)
    for row in (row for row in rows if row["part"] == "layer"):
        with_it, cheapest = (
            losses[losses["pattern"].str[row["number"]] == letter]["loss"].mean() for letter in (row["branch"], "0")
        )
        assert row["effect"] == pytest.approx(with_it - cheapest, abs=1e-5)
    assert [row["branch"] for row in rows if row["part"] == "layer"] == ["1", "2", "4"] * 3
    for refused in (["--average", "13"], ["--average", "many"]):
        assert main(["curve", str(run), *refused]) == 2
        assert "a number from 0 to 12" in capsys.readouterr().err
