"""The laws that every strategy obeys, as a class of tests: those of the folder pass it, and those of other packages should.

Knows no strategy by name. Losses come from tables, so that a law takes milliseconds.

Axes: N places (tokens), L letters, P patterns, R rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch

from duo_oracle.models.families.toy import best_pattern, random_toy
from duo_oracle.oracle.branches import parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_strings
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.loop import Best, run_strategy
from duo_oracle.search.strategy import Proposals, Strategy, Trials, build_strategy
from duo_oracle.search.testing.tables import TableScorer

Settings = Mapping[str, Mapping[str, str]]
_BUDGETS, _BRANCHES = ("any", "2", "atmost:2", "0", "4"), ("sB", ".sB", ".B", "B", ".s")
_EMPTY = {("2", "B"), ("atmost:2", "B"), ("0", "B"), ("2", ".s"), ("4", ".s")}
_SPACES = [(budget, branches) for budget in _BUDGETS for branches in _BRANCHES if (budget, branches) not in _EMPTY]


# Tables of 2, 3, 4 and 8 branches of unequal costs, each over so many letters that it has 64 patterns or fewer.
_TABLES = {"top:1,4": 4, "top:0,1,3": 3, "ranks:1,1+2,2,1+2+3": 3, "top:0,1,2,3,5,6,7,8": 2}
_OF_TABLES = [(budget, table) for table in _TABLES for budget in ("any", "7", "atmost:5")]


def space_of(budget: str = "2", branches: str = "sB", n_letters: int = 4) -> SearchSpace:
    table = parse_table(branches)
    return SearchSpace(n_letters, table.branches, parse_budgets(budget, n_letters, max(1, table.dearest))[0])


def table_scorer(space: SearchSpace, n_places: int, interaction: float, seed: int = 0) -> TableScorer:
    """Losses of a space's patterns, whatever codes its branches have."""
    return TableScorer(n_places, space.n_letters, interaction, seed, n_codes=max(3, *(branch + 1 for branch in space.branches)))


@cache
def minimum_losses(space: SearchSpace, n_places: int, interaction: float, seed: int = 0) -> np.ndarray:
    """The minimum loss of every place, by looking at all patterns."""
    scorer = table_scorer(space, n_places, interaction, seed)
    branches_PL = np.array([pattern.branches for pattern in space], dtype=np.uint8)
    return np.array([scorer.losses(np.full(len(branches_PL), place), branches_PL).min() for place in range(n_places)])


class StrategyContract:
    """Subclass it in a test module, with `@pytest.mark.parametrize("name", [...])` on the class for the strategies held to it."""

    few: ClassVar[Settings] = {}
    """Per strategy, settings with which it ends after a dozen trials or so a token."""
    enough: ClassVar[Settings] = {}
    """Per strategy, settings with which it is sure of the best of 64 patterns where letters do not interact."""

    def search(
        self, name: str, scorer: TableScorer, space: SearchSpace, settings: Mapping[str, str] | None = None, seed: int = 0
    ) -> tuple[Best, Strategy]:
        strategy = build_strategy(name, dict(settings or {}), space, scorer.n_places, np.random.default_rng(seed))
        return run_strategy(strategy, scorer), strategy

    def proposals(self, name: str) -> str:
        """Everything that a strategy asks for, as text."""
        scorer = TableScorer(2, 5, interaction=0.3)
        self.search(name, scorer, space_of("atmost:3", ".sB", 5), self.few.get(name), seed=5)
        return " ".join(f"{place}{pattern.hex()}" for place, pattern in scorer.asked)

    @pytest.mark.parametrize(("budget", "branches"), _SPACES)
    def test_it_stays_in_the_space_honours_the_budget_ends_and_repeats_nothing(self, name: str, budget: str, branches: str) -> None:
        self.check(name, space_of(budget, branches))

    @pytest.mark.parametrize(("budget", "table"), _OF_TABLES)
    def test_so_does_it_over_branches_of_unequal_costs(self, name: str, budget: str, table: str) -> None:
        self.check(name, space_of(budget, table, _TABLES[table]))

    def check(self, name: str, space: SearchSpace) -> None:
        """One search stays in the space, honours its budget, ends, and asks for nothing twice."""
        scorer = table_scorer(space, 3, interaction=0.3)
        best, strategy = self.search(name, scorer, space, self.few.get(name))
        assert space.contains(best.branches_NL).all()
        assert (best.loss_N >= minimum_losses(space, 3, 0.3) - 1e-9).all()
        asked = [(place, tuple(pattern)) for place, pattern in scorer.asked]
        assert len(set(asked)) == len(asked)
        assert np.bincount([place for place, _ in asked], minlength=3).tolist() == best.evaluations_N.tolist()
        patterns = np.array([pattern for _, pattern in asked], dtype=np.uint8)
        assert np.isin(patterns, np.array(space.branches)).all()
        if not strategy.proposes_outside_budget:
            assert space.contains(patterns).all()

    @pytest.mark.parametrize("table", _TABLES)
    def test_the_optimum_over_branches_of_unequal_costs_is_found_where_letters_do_not_interact(self, name: str, table: str) -> None:
        space = space_of("any", table, _TABLES[table])
        best, _ = self.search(name, table_scorer(space, 3, interaction=0.0), space, self.enough.get(name))
        assert best.loss_N == pytest.approx(minimum_losses(space, 3, 0.0))

    def test_losses_are_those_of_the_patterns(self, name: str) -> None:
        scorer = TableScorer(4, 4, interaction=0.3)
        best, _ = self.search(name, scorer, space_of("2", ".sB"), self.few.get(name))
        assert np.array_equal(best.loss_N, scorer.losses(np.arange(4), best.branches_NL))

    @pytest.mark.parametrize("n", [1, 3, 1000])
    def test_how_many_are_asked_for_at_a_time_changes_nothing(self, name: str, n: int) -> None:
        space = space_of("2", ".sB")
        found = []
        for size in (n, 7):
            scorer = TableScorer(3, 4, interaction=0.3)
            strategy = build_strategy(name, dict(self.few.get(name, {})), space, 3, np.random.default_rng(0))
            asked = set()
            while len((proposals := strategy.ask(size)).token_R):
                assert np.bincount(proposals.token_R).max() <= size
                loss_R = scorer.score(proposals.token_R, proposals.branches_RL)
                strategy.tell(_trials_of(proposals, loss_R))
                asked |= set(zip(proposals.token_R.tolist(), to_strings(proposals.branches_RL), strict=True))
            found.append(asked)
        assert found[0] == found[1]

    def test_equal_generators_give_equal_proposals(self, name: str) -> None:
        assert self.proposals(name) == self.proposals(name)

    def test_failed_trials_end_nothing(self, name: str) -> None:
        space = space_of("2", "sB", 6)
        scorer = TableScorer(5, 6, interaction=0.3, fails=0.3)
        best, _ = self.search(name, scorer, space)
        assert space.contains(best.branches_NL).all()
        assert np.isfinite(best.loss_N).all()
        assert (best.chosen_from_N <= best.evaluations_N).all()

    @pytest.mark.parametrize("budget", ["any", "3", "atmost:2"])
    def test_the_optimum_of_an_additive_toy_is_found(self, name: str, budget: str) -> None:
        toy = random_toy(seed=2, n_letters=6, n_vocabulary=16, interaction=0.0)
        token_id_T = torch.tensor([3, 8, 1, 14, 6])
        scorer = FixedScorer(toy, 0, token_id_T, RoutingPattern.uniform(Branch.BIG, 6), SkipReading.FFN)
        space = space_of(budget, "sB", 6)
        strategy = build_strategy(name, dict(self.enough.get(name, {})), space, scorer.n_places, np.random.default_rng(0))
        best = run_strategy(strategy, scorer)
        wanted = [best_pattern(toy, int(token), int(target), budget=space.budget) for token, target in pairwise(token_id_T)]
        wanted_NL = np.array([pattern.branches for pattern in wanted], dtype=np.uint8)
        assert best.loss_N == pytest.approx(scorer.score(np.arange(4), wanted_NL), abs=1e-6)


def _trials_of(proposals: Proposals, loss_R: np.ndarray) -> Trials:
    return Trials(proposals.token_R, proposals.branches_RL, loss_R, np.isfinite(loss_R))
