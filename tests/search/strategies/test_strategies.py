"""The laws that every strategy obeys, over the folder's listing, and each strategy's own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from duo_oracle.models.families.toy import best_pattern, random_toy
from duo_oracle.oracle.base.choices import names_in
from duo_oracle.oracle.base.settings import listed_settings
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_strings
from duo_oracle.oracle.spaces import SearchSpace, parse_branches
from duo_oracle.search.asking.loop import Best, run_strategy
from duo_oracle.search.strategy import STRATEGIES as CHOICES
from duo_oracle.search.strategy import Proposals, Strategy, Trials, build_strategy, parse_settings
from tests.search.fake_scorers import TableScorer

STRATEGIES = names_in("duo_oracle.search.strategies")
BUDGETS = ("any", "2", "atmost:2", "0", "4")
BRANCHES = ("sB", ".sB", ".B", "B", ".s")
SMALL_TRIALS = {"optuna": {"trials": "12"}, "mcts": {"simulations": "12"}, "random_search": {"n": "12"}}
ENOUGH = {"optuna": {"trials": "90", "sampler": "bruteforce"}, "mcts": {"simulations": "1000"}, "random_search": {"n": "1000"}}


def space_of(budget: str = "2", branches: str = "sB", n_layers: int = 4) -> SearchSpace:
    return SearchSpace(n_layers, parse_branches(branches), parse_budgets(budget, n_layers)[0])


SPACES = [(budget, branches) for budget in BUDGETS for branches in BRANCHES]
SPACES = [
    (budget, branches)
    for budget, branches in SPACES
    if not (branches == "B" and budget not in ("any", "4")) and not (branches == ".s" and budget in ("2", "4"))
]


def run(
    name: str,
    scorer: TableScorer,
    space: SearchSpace,
    raw: dict[str, str] | None = None,
    seed: int = 0,
) -> tuple[Best, Strategy]:
    strategy = build_strategy(name, raw or {}, space, scorer.n_places, np.random.default_rng(seed))
    return run_strategy(strategy, scorer), strategy


@cache
def least(space: SearchSpace, n_places: int, interaction: float, seed: int = 0) -> np.ndarray:
    """The least loss of every place, by looking at all patterns."""
    scorer = TableScorer(n_places, space.n_layers, interaction, seed)
    branches_PL = np.array([pattern.branches for pattern in space], dtype=np.uint8)
    losses = [scorer.losses(np.full(len(branches_PL), place), branches_PL).min() for place in range(n_places)]
    return np.array(losses)


def test_the_folder_holds_the_strategies_that_are_named_in_the_manual() -> None:
    assert set(STRATEGIES) >= {"exhaustive", "layerwise", "greedy", "beam", "additive", "mcts", "optuna", "random_search"}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("budget", "branches"), SPACES)
def test_a_strategy_stays_in_the_space_honours_the_budget_ends_and_repeats_nothing(name: str, budget: str, branches: str) -> None:
    space = space_of(budget, branches)
    scorer = TableScorer(3, space.n_layers, interaction=0.3)
    best, strategy = run(name, scorer, space, SMALL_TRIALS.get(name))
    assert space.contains(best.branches_NL).all()
    assert (best.loss_N >= least(space, 3, 0.3) - 1e-9).all()
    asked = [(place, tuple(pattern)) for place, pattern in scorer.asked]
    assert len(set(asked)) == len(asked)
    assert np.bincount([place for place, _ in asked], minlength=3).tolist() == best.evaluations_N.tolist()
    patterns = np.array([pattern for _, pattern in asked], dtype=np.uint8)
    assert np.isin(patterns, np.array(space.branches)).all()
    if not strategy.proposes_outside_budget:
        assert space.contains(patterns).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_are_those_of_the_patterns(name: str) -> None:
    space = space_of("2", ".sB")
    scorer = TableScorer(4, 4, interaction=0.3)
    best, _ = run(name, scorer, space, SMALL_TRIALS.get(name))
    assert np.array_equal(best.loss_N, scorer.losses(np.arange(4), best.branches_NL))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_how_many_are_asked_for_at_a_time_changes_nothing(name: str, n: int) -> None:
    space = space_of("2", ".sB")
    found = []
    for size in (n, 7):
        scorer = TableScorer(3, 4, interaction=0.3)
        strategy = build_strategy(name, SMALL_TRIALS.get(name, {}), space, 3, np.random.default_rng(0))
        asked = set()
        while len((proposals := strategy.ask(size)).token_R):
            assert np.bincount(proposals.token_R).max() <= size
            loss_R = scorer.score(proposals.token_R, proposals.branches_RL)
            strategy.tell(trials_of(proposals, loss_R))
            asked |= set(zip(proposals.token_R.tolist(), to_strings(proposals.branches_RL), strict=True))
        found.append(asked)
    assert found[0] == found[1]


def trials_of(proposals: Proposals, loss_R: np.ndarray) -> Trials:
    return Trials(proposals.token_R, proposals.branches_RL, loss_R, np.isfinite(loss_R))


@pytest.mark.parametrize("name", STRATEGIES)
def test_equal_generators_give_equal_proposals(name: str) -> None:
    assert proposals_of(name) == proposals_of(name)


def proposals_of(name: str) -> str:
    """Everything that a strategy asks for, as text."""
    scorer = TableScorer(2, 5, interaction=0.3)
    run(name, scorer, space_of("atmost:3", ".sB", 5), SMALL_TRIALS.get(name), seed=5)
    return " ".join(f"{place}{pattern.hex()}" for place, pattern in scorer.asked)


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_equal_generators_give_equal_proposals_in_another_process(hash_seed: str) -> None:
    code = "from tests.search.strategies.test_strategies import *\nfor name in STRATEGIES: print(proposals_of(name))"
    environment = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines() == [proposals_of(name) for name in STRATEGIES]


@pytest.mark.parametrize("name", STRATEGIES)
def test_failed_trials_end_nothing(name: str) -> None:
    space = space_of("2", "sB", 6)
    scorer = TableScorer(5, 6, interaction=0.3, fails=0.3)
    best, _ = run(name, scorer, space, {"optuna": {"trials": "30"}}.get(name))
    assert space.contains(best.branches_NL).all()
    assert np.isfinite(best.loss_N).all()
    assert (best.chosen_from_N <= best.evaluations_N).all()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("budget", ["any", "3", "atmost:2"])
def test_the_optimum_of_an_additive_toy_is_found(name: str, budget: str) -> None:
    toy = random_toy(seed=2, n_layers=6, n_vocabulary=16, interaction=0.0)
    token_id_T = torch.tensor([3, 8, 1, 14, 6])
    scorer = FixedScorer(toy, 0, token_id_T, RoutingPattern.uniform(Branch.BIG, 6), SkipReading.FFN)
    space = space_of(budget, "sB", 6)
    best, _ = run(name, scorer, space, ENOUGH.get(name))  # type: ignore[arg-type]
    wanted = [best_pattern(toy, int(token), int(target), budget=space.budget) for token, target in pairwise(token_id_T)]
    wanted_NL = np.array([pattern.branches for pattern in wanted], dtype=np.uint8)
    assert best.loss_N == pytest.approx(scorer.score(np.arange(4), wanted_NL), abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"mcts", "optuna", "random_search"}))  # one generator for all tokens
def test_many_tokens_are_searched_as_each_one_alone(name: str) -> None:
    space = space_of("3", ".sB", 5)
    together = TableScorer(4, 5, interaction=0.3)
    best, _ = run(name, together, space)
    for place in range(4):
        alone = TableScorer(4, 5, interaction=0.3)
        alone.score_all, alone.n_places = alone.score, 1  # type: ignore[attr-defined]
        alone.score = lambda place_R, *rest, at=place, alone=alone: alone.score_all(place_R + at, *rest)  # type: ignore
        one, _ = run(name, alone, space)
        assert np.array_equal(one.branches_NL[0], best.branches_NL[place])
        assert one.evaluations_N[0] == best.evaluations_N[place]


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("greedy", {"direction": "sideways"}, "available: up, down"),
        ("beam", {"width": "0"}, "at least 1"),
        ("beam", {"width": "many"}, "whole number"),
        ("beam", {"direction": "dwn"}, "did you mean 'down'"),
        ("layerwise", {"start": "middle"}, "small, big, spread, random"),
        ("layerwise", {"order": "sideways"}, "up, down, random"),
        ("layerwise", {"sweeps": "-1"}, "at least 0"),
        ("additive", {"base": "random"}, "spread, small, big"),
        ("additive", {"top": "0"}, "at least 1"),
        ("mcts", {"simulations": "0"}, "at least 1"),
        ("mcts", {"exploration": "-1"}, "at least 0"),
        ("mcts", {"widening": "nan"}, "at least 0"),
        ("optuna", {"sampler": "tpee"}, "did you mean 'tpe'"),
        ("optuna", {"scope": "all"}, "token, fixed"),
        ("optuna", {"trials": "0"}, "at least 1"),
        ("optuna", {"journal": "study.log"}, "scope=fixed"),
        ("random_search", {"n": "0"}, "at least 1"),
        ("exhaustive", {"n": "3"}, "strategy exhaustive has no settings; got 'n'"),
    ],
)
def test_settings_refuse_nonsense_in_one_line(name: str, raw: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_settings(name, raw)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("layerwise", {"start": "BBBB"}, "budget"),
        ("layerwise", {"start": "sB"}, "4 letters"),
        ("additive", {"base": ".sBB"}, "allowed branches"),
        ("optuna", {"scope": "fixed", "pareto": "true"}, "any or atmost"),
    ],
)
def test_settings_that_do_not_fit_the_space_are_refused(name: str, raw: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_strategy(name, raw, space_of("2", "sB"), 1, np.random.default_rng(0))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_listed_settings_are_those_of_the_class_and_each_says_what_it_does(name: str) -> None:
    declared = {f"{key}={value}".replace("False", "false"): key for key, value in vars(parse_settings(name, {})).items()}
    source = CHOICES.source(name)
    assert source is not None
    listed = listed_settings(source)
    assert list(listed) == list(declared)
    assert all(listed.values())
