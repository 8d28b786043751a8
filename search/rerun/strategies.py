"""Strategies beside a run's exact oracle: the same positions, model, context and budgets, searched again in this process.

In a context whose positions are independent every strategy sees what the oracle saw. In a committed run the strategies are
asked along the oracle's own path: every earlier token ran the pattern that the run chose, so that a strategy's regret at one
token is not mixed with its choices at those before. Where the run's paths are not certified (a model too deep for the
exact oracle), the reference is the best that the run or any of the strategies found. Speed is by CPU time, which other work on
the machine disturbs less than the clock's.

Axes: N tokens, R trials, P patterns, E evaluations, T positions of a sequence, L layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import read_pairs
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, Scorer
from duo_oracle.oracle.model import OracleModel, token_ids_on
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.answers.average import PREFIX, costs_of, parse_average
from duo_oracle.results.statistics.average import average_oracle
from duo_oracle.results.statistics.regret import Outcomes
from duo_oracle.results.statistics.selection_bias import best_of_n
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.asking.loop import run_strategy
from duo_oracle.search.asking.pooled import PooledScorer
from duo_oracle.search.asking.rounds import rank_in_group
from duo_oracle.search.job.asked import Nowhere
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.unit import scorer_of, solve_sequences
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.replay import Group, read_groups
from duo_oracle.search.strategy import Trials, build_strategy, load_strategy, parse_settings

DEFAULT_STRATEGIES = ("greedy", "beam", "layerwise", "additive", "mcts")


@dataclass(frozen=True)
class Candidate:
    """A strategy with its settings, as it was asked for."""

    name: str
    settings: dict[str, str]
    text: str


@dataclass(frozen=True)
class Comparison:
    """What every strategy found under every budget, and how fast the exact oracle is in the same process."""

    outcomes: tuple[Outcomes, ...]
    exact_tokens_per_second: dict[str, float]  # by budget; empty where the run is not certified
    certified: bool
    n_tokens: int
    n_documents: int

    def heading(self, context: str) -> str:
        """What was compared, on what."""
        reference = "the exact oracle" if self.certified else "the best that the run or any strategy found (none is exact)"
        path = "; earlier tokens ran the run's own path" if context == "committed" else ""
        return f"{self.n_tokens:,} tokens of {self.n_documents} documents · context {context}{path} · regret against {reference}"

    def notes(self, run: StoredRun) -> str:
        """How the columns are to be read, and the exact oracle's speed."""
        lines = [
            "share of gain: (mean pattern - strategy) / (mean pattern - reference); random, as many: the expected best of as many"
        ]
        lines[0] += " random patterns, " + ("from all losses" if "losses" in run.tables else "from a random sample")
        if any(outcome.budget.startswith(PREFIX) for outcome in self.outcomes):
            lines.append(
                "average: each token's cost is free, from what every strategy finds under all exact budgets, whose evaluations and "
                "time are added up; mean pattern: of the nearest costs, weighted"
            )
        if self.exact_tokens_per_second:
            said = ", ".join(f"{budget}: {speed:,.0f}" for budget, speed in self.exact_tokens_per_second.items())
            lines.append(f"the exact oracle in this process, tokens per CPU second by budget: {said}")
        return "\n".join(lines)


def parse_candidate(text: str) -> Candidate:
    """A strategy as `beam` or `beam:width=8,direction=down`. Raises InputError for another name or setting."""
    name, _, rest = text.partition(":")
    settings = read_pairs(f"a strategy is NAME or NAME:KEY=VALUE,KEY=VALUE, so {text!r} takes", filter(None, rest.split(",")))
    if load_strategy(name).covers_space:
        raise InputError(f"{name} is what the others are compared with; it stands beside them without being named")
    if parse_settings(name, settings).pooled:
        raise InputError(f"a comparison per token takes strategies per token; got {text!r}, one pattern for all")
    return Candidate(name, settings, text)


def compare(
    opened: OpenedRun,
    candidates: list[Candidate],
    budgets: tuple[str, ...],
    max_sequences: int | None,
    seed: int,
) -> Comparison:
    """Searches the run's positions again with each candidate under each budget.

    A budget `average:K` is answered by every strategy from what it finds under all exact budgets, as the oracle's is.
    Raises InputError for a budget that was not searched, and settings that do not fit.
    """
    run, problem = opened.run, replace(opened.problem, seed=seed)
    averages = {text: parse_average(text, run) for text in budgets if text.startswith(PREFIX)}
    exact = tuple(map(str, costs_of(run))) if averages else ()
    wanted = tuple(dict.fromkeys((*(text for text in budgets if text not in averages), *exact)))
    parsed = [run.budget(text) for text in wanted]
    for candidate in candidates:
        for budget in parsed:
            space = SearchSpace(run.n_letters, problem.branches, budget)
            build_strategy(candidate.name, candidate.settings, space, 1, np.random.default_rng(0))
    groups = list(read_groups(run, wanted, max_sequences))
    certified = all(group.chosen[text].certified_N.all() for group in groups for text in wanted)
    found: dict[str, list[Outcomes]] = {}
    speeds = {}
    for text, budget in zip(wanted, parsed, strict=True):
        timed = certified and text in budgets
        found[text], seconds = _under_budget(
            opened, replace(problem, budgets=(budget,)), candidates, groups, text, certified, timed
        )
        if timed:
            speeds[text] = sum(len(group.document_N) for group in groups) / seconds
    for text, average in averages.items():
        found[text] = [
            _averaged([found[cost][at] for cost in exact], np.array(exact, dtype=np.int64), text, average)
            for at in range(len(candidates))
        ]
    outcomes = [outcome for text in budgets for outcome in found[text]]
    documents = {sequence.document for group in groups for sequence in group.sequences}
    return Comparison(tuple(outcomes), speeds, certified, sum(len(group.document_N) for group in groups), len(documents))


def _under_budget(
    opened: OpenedRun,
    problem: Problem,
    candidates: list[Candidate],
    groups: list[Group],
    text: str,
    certified: bool,
    timed: bool,
) -> tuple[list[Outcomes], float]:
    model, (space,) = opened.model, problem.spaces()
    kept = KeptLosses(opened.run) if "losses" in opened.run.tables else None
    watches = [_Watch(candidate, space) for candidate in candidates]
    exact_seconds, tables = 0.0, []
    for number, group in enumerate(groups):
        branches_NL = group.chosen[text].branches_NL
        if timed:
            exact_seconds += _exact_seconds(model, problem, group)
        for watch in watches:
            watch.search(model, problem, group, branches_NL, number)
        most = min(space.size, max(int(watch.evaluations[-1].max()) for watch in watches))
        tables.append(_table(kept, model, problem, group, text, most, number))
    stored_N = np.concatenate([group.chosen[text].loss_N for group in groups])
    reference_N = stored_N
    if not certified:
        reference_N = np.min([stored_N, *(np.concatenate(watch.losses) for watch in watches)], axis=0)
    document_N = np.concatenate([group.document_N for group in groups])
    return [watch.outcomes(text, document_N, reference_N, tables) for watch in watches], exact_seconds


def _averaged(by_cost: list[Outcomes], cost_K: np.ndarray, text: str, average: float) -> Outcomes:
    """What one strategy's answers under all exact budgets come to where a token's own cost is free and the mean is given."""
    first = by_cost[0]
    loss_N, reference_N = (
        average_oracle(np.stack([getattr(outcome, name) for outcome in by_cost]), cost_K).at(average)[0]
        for name in ("loss_N", "reference_N")
    )
    above = min(max(int(np.searchsorted(cost_K, average)), 1), len(cost_K) - 1)
    share = (average - cost_K[above - 1]) / (cost_K[above] - cost_K[above - 1]) if len(cost_K) > 1 else 0.0
    mean_N = (1 - share) * by_cost[above - 1].mean_N + share * by_cost[above].mean_N
    return Outcomes(
        strategy=first.strategy,
        budget=text,
        n_patterns=sum(outcome.n_patterns for outcome in by_cost),
        seconds=sum(outcome.seconds for outcome in by_cost),
        document_N=first.document_N,
        loss_N=loss_N,
        evaluations_N=np.sum([outcome.evaluations_N for outcome in by_cost], axis=0),
        reference_N=reference_N,
        mean_N=mean_N,
        random_N=np.full_like(loss_N, np.nan),  # what the best of a free choice among drawn patterns is expected to be is not known
        best_NE=np.empty((len(loss_N), 0)),
    )


class _Watch:
    """One strategy under one budget: runs it group by group and keeps what it found, when, and in which time."""

    def __init__(self, candidate: Candidate, space: SearchSpace) -> None:
        self._candidate, self._space = candidate, space
        self.losses: list[np.ndarray] = []
        self.evaluations: list[np.ndarray] = []
        self._best_so_far: list[np.ndarray] = []
        self._seconds = 0.0

    def search(self, model: OracleModel, problem: Problem, group: Group, branches_NL: np.ndarray, number: int) -> None:
        generator = np.random.default_rng((problem.seed, number))
        n_tokens = len(branches_NL)
        loss_N, evaluations_N = np.empty(n_tokens), np.empty(n_tokens, dtype=np.int64)
        rounds: list[Trials] = []
        started = time.process_time()
        for scorer, token_S in _scorers(model, problem, group, branches_NL):

            def keep(trials: Trials, token_S: np.ndarray = token_S) -> None:
                rounds.append(replace(trials, token_R=token_S[trials.token_R]))

            strategy = build_strategy(self._candidate.name, self._candidate.settings, self._space, len(token_S), generator)
            best = run_strategy(strategy, scorer, keep)
            loss_N[token_S], evaluations_N[token_S] = best.loss_N, best.evaluations_N
        self._seconds += time.process_time() - started
        self.losses.append(loss_N)
        self.evaluations.append(evaluations_N)
        self._best_so_far.append(_best_so_far(rounds, self._space, n_tokens))

    def outcomes(self, budget: str, document_N: np.ndarray, reference_N: np.ndarray, tables: list[np.ndarray]) -> Outcomes:
        most = max(best_NE.shape[1] for best_NE in self._best_so_far)
        padded = [np.pad(best_NE, ((0, 0), (0, most - best_NE.shape[1])), mode="edge") for best_NE in self._best_so_far]
        drawn = [
            best_of_n(loss_NP, np.minimum(evaluations_N, loss_NP.shape[1]))
            for loss_NP, evaluations_N in zip(tables, self.evaluations, strict=True)
        ]
        return Outcomes(
            strategy=self._candidate.text,
            budget=budget,
            n_patterns=self._space.size,
            seconds=self._seconds,
            document_N=document_N,
            loss_N=np.concatenate(self.losses),
            evaluations_N=np.concatenate(self.evaluations),
            reference_N=reference_N,
            mean_N=np.concatenate([loss_NP.mean(axis=1) for loss_NP in tables]),
            random_N=np.concatenate(drawn),
            best_NE=np.concatenate(padded),
        )


def _scorers(model: OracleModel, problem: Problem, group: Group, branches_NL: np.ndarray) -> Iterator[tuple[Scorer, np.ndarray]]:
    """Scorers of all the group's tokens, and which tokens each has: one scorer, or in a committed context one per position."""
    null = NullLabels()
    tokens = [token_ids_on(model.device, sequence.token_ids) for sequence in group.sequences]
    if problem.context.independent:
        scorers = [
            scorer_of(model, sequence, token_id_T, problem, null)
            for sequence, token_id_T in zip(group.sequences, tokens, strict=True)
        ]
        yield PooledScorer(scorers), np.arange(len(branches_NL))
        return
    n_positions, n_warm = np.array([(sequence.n_positions, sequence.n_warm) for sequence in group.sequences]).T
    first = np.cumsum(n_positions) - n_positions - n_warm
    for step in left_to_right(model, tokens, problem.skip, n_warm.tolist()):
        token_S = first[list(step.lanes)] + step.position
        yield CommittedScorer(model, step, [group.sequences[lane].index for lane in step.lanes], problem.skip, null), token_S
        step.commit(branches_NL[token_S])


def _best_so_far(rounds: list[Trials], space: SearchSpace, n_tokens: int) -> np.ndarray:
    """The least loss in the budget after each evaluation of every token: (N, E), NaN before the first."""
    token_R = np.concatenate([trials.token_R for trials in rounds])
    branches_RL = np.concatenate([trials.branches_RL for trials in rounds])
    counts_R = space.contains(branches_RL) & np.concatenate([trials.complete_R for trials in rounds])
    rank_R = rank_in_group(token_R)
    best_NE = np.full((n_tokens, int(rank_R.max()) + 1), np.inf)
    best_NE[token_R, rank_R] = np.where(counts_R, np.concatenate([trials.loss_R for trials in rounds]), np.inf)
    best_NE = np.minimum.accumulate(best_NE, axis=1)
    return np.where(np.isfinite(best_NE), best_NE, np.nan)


def _exact_seconds(model: OracleModel, problem: Problem, group: Group) -> float:
    started = time.process_time()
    solve_sequences(model, group.sequences, replace(problem, strategy="exhaustive", settings={}), Nowhere())
    return time.process_time() - started


def _table(
    kept: KeptLosses | None, model: OracleModel, problem: Problem, group: Group, text: str, most: int, number: int
) -> np.ndarray:
    """Losses of patterns of the budget at the group's tokens, (N, P): all that the run kept, else a random sample of `most`."""
    (budget,) = problem.budgets
    if kept is not None:
        found = [kept.read_whole(sequence.index, budget).within(budget).loss_NP for sequence in group.sequences]
        return np.concatenate(found).astype(np.float64)
    branches_NL = group.chosen[text].branches_NL
    (space,) = problem.spaces()
    found_NP = np.full((len(branches_NL), most), np.nan)
    generator = np.random.default_rng((problem.seed, number, 1))
    for scorer, token_S in _scorers(model, problem, group, branches_NL):
        strategy = build_strategy("random_search", {"n": str(most)}, space, len(token_S), generator)
        rounds: list[Trials] = []
        run_strategy(strategy, scorer, rounds.append)
        token_R, loss_R = (np.concatenate([getattr(trials, name) for trials in rounds]) for name in ("token_R", "loss_R"))
        found_NP[token_S[token_R], rank_in_group(token_R)] = loss_R
    return found_NP
