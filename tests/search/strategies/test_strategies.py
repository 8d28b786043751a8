"""Every strategy of the folder passes the contract; and what its settings take, refuse and say."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

from duo_oracle.oracle.base.settings import listed_settings
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.loop import Best, run_strategy
from duo_oracle.search.strategy import STRATEGIES as CHOICES
from duo_oracle.search.strategy import build_strategy, parse_settings
from duo_oracle.search.testing import StrategyContract, TableScorer
from duo_oracle.search.testing.strategies import Settings, space_of

STRATEGIES = CHOICES.names()


def run(name: str, scorer: TableScorer, space: SearchSpace) -> Best:
    return run_strategy(build_strategy(name, {}, space, scorer.n_places, np.random.default_rng(0)), scorer)


def test_the_folder_holds_the_strategies_that_are_named_in_the_manual() -> None:
    assert set(STRATEGIES) >= {"exhaustive", "layerwise", "greedy", "beam", "additive", "mcts", "optuna", "random_search"}


@pytest.mark.parametrize("name", STRATEGIES)
class TestStrategies(StrategyContract):
    few: ClassVar[Settings] = {"optuna": {"trials": "12"}, "mcts": {"simulations": "12"}, "random_search": {"n": "12"}}
    enough: ClassVar[Settings] = {
        "optuna": {"trials": "90", "sampler": "bruteforce"},
        "mcts": {"simulations": "1000"},
        "random_search": {"n": "1000"},
    }


def test_equal_generators_give_equal_proposals_in_another_process() -> None:
    """In which sets and names are hashed otherwise."""
    found = {name: TestStrategies().proposals(name) for name in STRATEGIES}
    code = (
        "from tests.search.strategies.test_strategies import *\n"
        "import json\n"
        "print(json.dumps({name: TestStrategies().proposals(name) for name in STRATEGIES}))"
    )
    environment = {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == found


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {"mcts", "optuna", "random_search"}))  # one generator for all tokens
def test_many_tokens_are_searched_as_each_one_alone(name: str) -> None:
    space = space_of("3", ".sB", 5)
    together = TableScorer(4, 5, interaction=0.3)
    best = run(name, together, space)
    for place in range(4):
        alone = TableScorer(4, 5, interaction=0.3)
        alone.score_all, alone.n_places = alone.score, 1  # type: ignore[attr-defined]
        alone.score = lambda place_R, *rest, at=place, alone=alone: alone.score_all(place_R + at, *rest)  # type: ignore
        one = run(name, alone, space)
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
