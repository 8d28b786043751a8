"""What each strategy promises beyond the contract: evaluations, local optima, width, trees, studies."""

from __future__ import annotations

from math import comb
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_strings
from duo_oracle.oracle.spaces import SearchSpace, parse_branches
from duo_oracle.search.asking.loop import Best, run_strategy
from duo_oracle.search.asking.sums import least_sums
from duo_oracle.search.strategy import Strategy, build_strategy
from duo_oracle.search.testing.tables import TableScorer

N = 20


def space_of(budget: str, branches: str = "sB", n_letters: int = 8) -> SearchSpace:
    return SearchSpace(n_letters, parse_branches(branches), parse_budgets(budget, n_letters)[0])


def run(name: str, space: SearchSpace, interaction: float = 0.3, n: int = N, **raw: object) -> tuple[Best, Strategy, TableScorer]:
    scorer = TableScorer(n, space.n_letters, interaction)
    settings = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in raw.items()}
    strategy = build_strategy(name, settings, space, n, np.random.default_rng(0))
    return run_strategy(strategy, scorer), strategy, scorer


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("branches", ["sB", ".sB"])
@pytest.mark.parametrize("budget", ["3", "any", "atmost:4"])
def test_a_beam_of_width_1_is_greedy(direction: str, branches: str, budget: str) -> None:
    _, _, greedy = run("greedy", space_of(budget, branches), direction=direction)
    _, _, beam = run("beam", space_of(budget, branches), direction=direction, width=1)
    assert greedy.asked == beam.asked


@pytest.mark.parametrize("budget", ["4", "any"])
def test_wider_beams_are_not_worse_and_the_widest_is_exhaustive(budget: str) -> None:
    means = [run("beam", space_of(budget), n=60, width=width)[0].loss_N.mean() for width in (1, 2, 4, 16)]
    assert means == sorted(means, reverse=True)
    exact = run("exhaustive", space_of(budget), n=60)[0]
    widest = run("beam", space_of(budget), n=60, width=1000)[0]
    assert np.array_equal(widest.loss_N, exact.loss_N)
    assert (widest.chosen_from_N == exact.evaluations_N).all()


@pytest.mark.parametrize(("budget", "evaluations"), [("4", 43), ("any", 79), ("12", 79)])
def test_greedy_takes_the_evaluations_of_its_docstring(budget: str, evaluations: int) -> None:
    best, _, _ = run("greedy", space_of(budget, n_letters=12), n=3)
    assert (best.evaluations_N == evaluations).all()


@pytest.mark.parametrize(("budget", "branches"), [("any", ".sB"), ("3", "sB"), ("2", ".sB"), ("atmost:3", "sB")])
def test_layerwise_ends_at_a_local_optimum(budget: str, branches: str) -> None:
    space = space_of(budget, branches, 5)
    for order in ("up", "down", "random"):
        for start in ("small", "big", "spread", "random"):
            best, _, scorer = run("layerwise", space, n=6, order=order, start=start)
            for place, row in enumerate(best.branches_NL):
                near = neighbours(space, row)
                assert scorer.losses(np.full(len(near), place), near).min() >= best.loss_N[place]


def neighbours(space: SearchSpace, row_L: np.ndarray) -> np.ndarray:
    """Patterns of the space that differ at one layer; and, under a budget, at two, of which exactly one is big in each."""
    found = []
    for pattern in space:
        other_L = np.array(pattern.branches, dtype=np.uint8)
        differs_L = other_L != row_L
        moved = differs_L.sum() == 2 and ((other_L == Branch.BIG)[differs_L].sum(), (row_L == Branch.BIG)[differs_L].sum()) == (
            1,
            1,
        )
        swapped_big = moved and ((other_L == Branch.BIG) ^ (row_L == Branch.BIG))[differs_L].all()
        if differs_L.sum() == 1 or (swapped_big and str(space.budget) != "any"):
            found.append(other_L)
    return np.array(found, dtype=np.uint8)


def test_layerwise_sweeps_no_more_than_it_is_told() -> None:
    one, none = run("layerwise", space_of("4"), sweeps=1)[0], run("layerwise", space_of("4"))[0]
    assert one.evaluations_N.sum() < none.evaluations_N.sum()
    assert one.loss_N.mean() >= none.loss_N.mean()


def test_a_start_of_layerwise_has_the_budget_spread_over_the_layers() -> None:
    for start, budget, first in [
        ("small", "3", "sBssBsBs"),
        ("big", "atmost:2", "ssBsssBs"),
        ("spread", "any", "sBsBsBsB"),
        ("spread", "atmost:1", "ssssBsss"),
        ("sBBBssss", "3", "sBBBssss"),
    ]:
        _, _, scorer = run("layerwise", space_of(budget), start=start, n=1)
        assert to_strings(np.frombuffer(scorer.asked[0][1], np.uint8)[None]) == [first]


@pytest.mark.parametrize("branches", ["sB", ".sB"])
@pytest.mark.parametrize("budget", ["any", "3", "atmost:3"])
@pytest.mark.parametrize("base", ["small", "big", "spread", "sBsBssBB"])
def test_additive_is_exact_where_layers_do_not_interact(branches: str, budget: str, base: str) -> None:
    space = space_of(budget, branches)
    best, _, _ = run("additive", space, interaction=0.0, base=base, top=5)
    exact, _, _ = run("exhaustive", space, interaction=0.0)
    assert best.loss_N == pytest.approx(exact.loss_N, abs=1e-9)
    assert best.evaluations_N.max() <= 1 + 8 * (len(branches) - 1) + 5


def test_the_guesses_of_additive_are_the_best_estimates_in_their_order() -> None:
    space = space_of("atmost:3", ".sB", 5)
    generator = np.random.default_rng(1)
    effect_NLb = generator.normal(size=(7, 5, 3))
    found_NML = least_sums(space, effect_NLb, 9)
    all_PL = np.array([pattern.branches for pattern in space], dtype=np.uint8)
    for effect_Lb, found_ML in zip(effect_NLb, found_NML, strict=True):
        sum_P = effect_Lb[np.arange(5), all_PL].sum(axis=1)
        assert np.array_equal(found_ML, all_PL[np.argsort(sum_P)[:9]])


def test_the_trees_of_mcts_branch() -> None:
    _, strategy, _ = run("mcts", space_of("4", ".sB"), simulations=60)
    children_NS = strategy.children_of_nodes  # type: ignore[attr-defined]
    assert ((children_NS >= 2).sum(axis=1) >= 5).all()
    assert (children_NS.max(axis=1) == 3).all()


def test_widening_gives_a_node_children_as_it_is_visited() -> None:
    _, strategy, _ = run("mcts", space_of("any", ".sB", 24), n=4, simulations=120, widening=0.5)
    children_NS, visits_NS = strategy.children_of_nodes, strategy._visits_NS  # type: ignore[attr-defined]
    assert (children_NS <= 1 + visits_NS**0.5).all()
    assert (children_NS == 1).any()
    assert (children_NS == 3).any()


def test_more_simulations_of_mcts_do_not_hurt() -> None:
    means = [run("mcts", space_of("4"), n=60, simulations=n)[0].loss_N.mean() for n in (5, 20, 60, 70)]
    assert means == sorted(means, reverse=True)
    assert means[-1] == run("exhaustive", space_of("4"), n=60)[0].loss_N.mean()  # 70 patterns there are


def test_mcts_does_better_than_as_many_random_patterns() -> None:
    space = space_of("any", n_letters=10)
    assert run("mcts", space, n=60)[0].loss_N.mean() < run("random_search", space, n=60)[0].loss_N.mean() - 0.5


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii", "random", "bruteforce"])
@pytest.mark.parametrize(("budget", "branches"), [("3", "sB"), ("atmost:2", ".sB"), ("any", ".sB"), ("2", "B."), ("0", "s")])
def test_samplers_of_optuna_suggest_in_the_budget(sampler: str, budget: str, branches: str) -> None:
    space = space_of(budget, branches, 5)
    best, _, scorer = run("optuna", space, n=3, sampler=sampler, trials=15, batch=4)
    assert space.contains(np.array([list(pattern) for _, pattern in scorer.asked], dtype=np.uint8)).all()
    assert (best.evaluations_N <= 15).all()


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "needs"), [("gp", "scipy"), ("qmc", "scipy"), ("cmaes", "cmaes")])
@pytest.mark.parametrize("budget", ["2", "any", "atmost:3"])
def test_samplers_that_need_more_packages_suggest_in_the_budget(sampler: str, needs: str, budget: str) -> None:
    pytest.importorskip(needs)
    space = space_of(budget, ".sB", 5)
    _, _, scorer = run("optuna", space, n=2, sampler=sampler, trials=14)
    assert space.contains(np.array([list(pattern) for _, pattern in scorer.asked], dtype=np.uint8)).all()


def test_a_sampler_whose_package_is_missing_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from duo_oracle.search.strategies import optuna

    def missing(seed: int) -> None:
        raise ModuleNotFoundError("No module named 'cmaes'", name="cmaes")

    monkeypatch.setitem(optuna._SAMPLERS, "cmaes", missing)
    with pytest.raises(ValueError, match="needs the package cmaes"):
        run("optuna", space_of("2"), sampler="cmaes")


def test_brute_force_of_optuna_tries_the_whole_space() -> None:
    space = space_of("2", ".sB", 4)
    best, _, _ = run("optuna", space, n=2, sampler="bruteforce", trials=1000)
    assert best.chosen_from_N.tolist() == [space.size] * 2


@pytest.mark.parametrize("batch", [1, 5])
def test_a_study_for_all_tokens_finds_the_best_fixed_pattern(batch: int) -> None:
    space = space_of("2", n_letters=6)
    best, _, scorer = run("optuna", space, n=12, scope="fixed", sampler="bruteforce", batch=batch)
    patterns = [RoutingPattern(tuple(map(Branch, pattern))) for _, pattern in scorer.asked]
    assert len(patterns) == 12 * comb(6, 2)
    places = np.arange(12)
    means = {str(p): scorer.losses(places, np.tile(np.array(p.branches, np.uint8), (12, 1))).mean() for p in space}
    told = np.array([scorer.losses(places, np.tile(np.frombuffer(row, np.uint8), (12, 1))).mean() for _, row in scorer.asked[::12]])
    assert told.min() == pytest.approx(min(means.values()))
    assert best.evaluations_N.tolist() == [space.size] * 12


def test_a_study_is_kept_in_its_journal_and_replaced_when_it_is_done_again(tmp_path: Path) -> None:
    import optuna

    journal = tmp_path / "study.log"
    for _ in range(2):
        run("optuna", space_of("atmost:4"), n=5, scope="fixed", trials=10, pareto=True, journal=journal)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert len(study.trials) == 10
    for trial in study.trials:
        assert trial.values[1] == trial.user_attrs["pattern"].count("B") <= 4
