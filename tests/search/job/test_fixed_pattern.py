"""One pattern for all tokens: the study finds the one that the exact table of the `same` context says is best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from duo_oracle import results
from duo_oracle.results.answers.pareto import draw_front, fixed_patterns
from duo_oracle.results.statistics.baselines import document_sums, fixed_patterns_of_run
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search.conftest import N_SEQUENCES

Asks = Callable[..., SearchConfig]
FIXED = {"scope": "fixed", "sampler": "bruteforce"}


@pytest.fixture
def exact(asks: Asks, tmp_path: Path) -> results.Run:
    config = asks(context="same", budget="2,any", keep="losses", null_draws=0, out=str(tmp_path / "exact"))
    run_search(config)
    return results.load(config.out)


@pytest.mark.parametrize("budget", ["2", "any"])
def test_the_best_fixed_pattern_is_that_of_the_exact_table(asks: Asks, exact: results.Run, budget: str) -> None:
    config = asks(context="same", budget=budget, strategy="optuna", settings=FIXED, keep="trials", unit_sequences=None)
    run_search(config)
    run = results.load(config.out)
    assert len(run.manifest.units) == 1
    best = min(fixed_patterns(run), key=lambda pattern: pattern.loss)
    wanted = fixed_patterns_of_run(exact)[budget]
    assert best.loss == pytest.approx(wanted.best_in_sample.mean, abs=1e-5)
    assert best.pattern == wanted.best_pattern


def test_a_units_sequences_are_searched_as_one_set(asks: Asks) -> None:
    run_search(asks(context="full", strategy="optuna", settings={**FIXED, "trials": "5"}, keep="trials", unit_sequences=None))
    run = results.load(asks().out)
    patterns = run.trials().groupby(["sequence", "position"])["pattern"].agg(tuple)
    assert len(run.tokens()["sequence"].unique()) == N_SEQUENCES
    assert len(set(patterns)) == 1


def test_the_front_of_trials_is_the_front_of_all_losses(asks: Asks, exact: results.Run, tmp_path: Path) -> None:
    settings = {**FIXED, "pareto": "true"}
    run_search(asks(context="same", strategy="optuna", settings=settings, keep="trials", unit_sequences=None))
    run = results.load(asks().out)
    found = {p.pattern: p.loss for p in fixed_patterns(run) if p.on_front}
    wanted = {p.pattern: p.loss for p in fixed_patterns(exact) if p.on_front}
    assert found == pytest.approx(wanted, abs=1e-5)
    sums = document_sums(exact)
    assert min(wanted.values()) == pytest.approx(sums.sum_DP.sum(axis=0).min() / exact.n_tokens, abs=1e-5)
    for name in ("one.svg", "two.svg"):
        draw_front(fixed_patterns(run), "toy").save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_the_command_prints_the_front(exact: results.Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["pareto", str(exact.path), "--plot", str(tmp_path / "front.svg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [int(line.split()[0]) for line in lines[1:]]
    assert counts == sorted(set(counts))
    assert (tmp_path / "front.svg").exists()


def test_runs_without_patterns_for_all_tokens_have_no_front(asks: Asks, tmp_path: Path) -> None:
    run_search(asks(context="full", strategy="mcts", settings={"simulations": "1"}, keep="trials"))
    with pytest.raises(ValueError, match="no pattern was evaluated at every token"):
        fixed_patterns(results.load(asks().out))
    run_search(asks(null_draws=0, out=str(tmp_path / "bare")))
    with pytest.raises(ValueError, match="neither trials nor losses"):
        fixed_patterns(results.load(tmp_path / "bare"))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"context": "committed"}, "got committed"), ({"context": "same", "null_draws": 2}, "`null_draws=2`")],
)
def test_one_pattern_for_all_tokens_has_no_meaning_where_it_is_refused(asks: Asks, values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_search(asks(strategy="optuna", settings=FIXED, **values))


def test_a_setting_that_does_not_fit_the_model_is_refused_before_any_work(asks: Asks) -> None:
    with pytest.raises(ValueError, match="4 letters"):
        run_search(asks(strategy="layerwise", settings={"start": "sB"}))
    assert not Path(asks().out).exists()
