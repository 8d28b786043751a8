"""Routers beside a run's oracle: the same positions, model, context and budgets.

A router chooses as it would in use, by one plain pass in which it routes the whole sequence; a file says what some router chose.
What the choices cost is then read in the run's context: from the losses that the run kept, or scored. In a committed context
that is the loss of the router's own pass, and fixed and random patterns are real routings too. Without kept losses fixed and
random patterns are a sample, the same for all tokens.

Axes: N the run's positions in order, T positions of a sequence, P patterns, K budgets 0..L, L layer, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from duo_oracle.models.duo_llm.flops import flops_of
from duo_oracle.models.plain_losses import window_losses
from duo_oracle.models.router import read_router
from duo_oracle.models.routing import route
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import BudgetKind
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.scorer import scored
from duo_oracle.oracle.model import cheapest_branch, token_ids_on
from duo_oracle.oracle.patterns import Branch, branch_counts, to_strings
from duo_oracle.results.compare.plane import Oracle, Plane, Routed
from duo_oracle.results.store.positions import numbers, read_paths, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.route_files import Routes, read_routes
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.results.store.windows import front_of
from duo_oracle.search.job.routed import route_facts
from duo_oracle.search.job.unit import scorer_of
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.pattern_tables import PatternTables, kept_tables, scored_tables

SAMPLE = 32
"""Patterns per budget that stand for all, where the run kept no losses."""
REFERENCE = "reference"
"""The router that is the choice of the run's own reference."""
DRAWS = 4
"""Random routings of a sequence per budget, in a committed context."""


@dataclass(frozen=True)
class Compared:
    """The plane, the routers on it, and what could not be said, a line each."""

    plane: Plane
    routers: tuple[Routed, ...]
    notes: tuple[str, ...]


def compare_routers(
    opened: OpenedRun,
    routers: tuple[str, ...],
    route_files: tuple[tuple[str | None, str], ...] = (),
    sample: int = SAMPLE,
    seed: int = 0,
) -> Compared:
    """Everything about `routers` (as `read_router` takes them, or `reference` and `reference:BUDGET`, the choice of the run's own
    reference) and route files (name or None, path) at the run's positions.

    Raises InputError for a router that does not fit the run's model, a route file that does not fit the run (as `read_routes`),
    and two of one name.
    """
    routes = [routes_of(text, opened) for text in routers]
    routes += [read_routes(file, opened.run, name) for name, file in route_files]
    names = [found.name for found in routes]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise InputError(f"every router is compared once; there are two named {doubled[0]!r} (NAME=FILE names a file of `routes`)")
    work = _Work(opened, sample, seed)
    plane = work.plane()
    return Compared(plane, tuple(work.routed(plane, found) for found in routes), tuple(work.notes(plane)))


def _of_reference(text: str, run: StoredRun) -> Routes:
    """The choices of the run's own reference under one of its budgets: `reference`, or `reference:BUDGET`."""
    if "reference" not in run.identity:
        raise InputError(
            f"{run.place} was searched without a reference; router {text!r} is its choice (search with `reference='self'`)"
        )
    budget = text.partition(":")[2] or ("any" if "any" in run.budgets else run.budgets[0])
    rows = read_paths(run, read_tokens(run), (budget,), ("ref_pattern",))[str(run.budget(budget))]
    facts = {} if "file" in run.identity["reference"] else {"causal": "true"}  # who made a file is not known
    return Routes(text, branches_of(rows["ref_pattern"]), facts | ({"budget": budget} if budget.isdecimal() else {}))


def routes_of(text: str, opened: OpenedRun) -> Routes:
    """What the router of `text` chooses at the run's positions, as it routes its windows itself.

    Raises InputError for a router that does not fit the run's model, or chose a branch that the run does not compare.
    """
    if text.partition(":")[0] == REFERENCE:
        return _of_reference(text, opened.run)
    router, run, fingerprint = read_router(text), opened.run, opened.checkpoint.fingerprint
    masks = route(router, opened.module, opened.sequences, opened.problem.skip, fingerprint)
    branches_NL = np.concatenate([mask_TL[s.scored] for mask_TL, s in zip(masks, opened.sequences, strict=True)])
    allowed = run.identity["branches"]
    outside = sorted({Branch(int(branch)).letter for branch in np.unique(branches_NL)} - set(allowed))
    if outside:
        raise InputError(f"{run.place} compares the branches {allowed!r}; router {text} chose {outside[0]!r}")
    facts = route_facts(router, fingerprint, run.identity["data_fingerprint"], opened.problem.skip, run.route_layers)
    return Routes(router.spec, branches_NL, facts)


class _Work:
    """One comparison: the run's positions, in one order, and the ways to know a loss there."""

    def __init__(self, opened: OpenedRun, sample: int, seed: int) -> None:
        self._run, self._model, self._sequences, self._seed = opened.run, opened.model, opened.sequences, seed
        self._problem, self._checkpoint, self._n_letters = opened.problem, opened.checkpoint, opened.run.n_letters
        self._tokens = [token_ids_on(self._model.device, s.token_ids) for s in self._sequences]
        self._positions = read_tokens(self._run)
        self._rows = [span.rows for span in spans_of(self._positions)]
        self._document_N = np.array(self._positions["document"].to_pylist())
        self._committed = self._problem.context.kind is ContextKind.COMMITTED
        if "losses" in self._run.tables and not self._committed:
            self._tables: PatternTables = kept_tables(self._run)
        else:
            self._tables = scored_tables(self._model, self._problem, self._sequences, self._tokens, sample, seed)

    def plane(self) -> Plane:
        oracles, any_oracle, at_most, small_N, big_N = _stored(self._run, self._positions)
        if self._committed:  # the run's own are those of a token after the oracle's choices
            small_N, big_N = (
                self._own(np.full((len(small_N), self._n_letters), b, np.uint8)) for b in (cheapest_branch(self._model), Branch.BIG)
            )
        fixed_KN, chosen, in_sample = self._fixed()
        random_KN, rank_KN = self._random()
        positions = self._positions
        mean_context = float(np.mean(positions["position"].to_numpy() + 1 + len(front_of(self._run))))
        flops = flops_of(self._checkpoint.config, mean_context, self._problem.skip, self._n_letters)
        return Plane(
            sequence_N=positions["sequence"].to_numpy(),
            position_N=positions["position"].to_numpy(),
            document_N=self._document_N,
            context=self._run.context,
            independent=self._problem.context.independent,
            branches=self._problem.branches,
            loss_cheapest_N=small_N,
            loss_full_N=big_N,
            oracles=oracles,
            at_most=at_most,
            any_oracle=any_oracle,
            fixed_KN=fixed_KN,
            fixed_patterns=in_sample,
            random_KN=random_KN,
            gap_excess_KN=self._gap_excess(fixed_KN, chosen, oracles, big_N),
            random_rank_KN=rank_KN,
            flops_by_branch=flops,
            routed_layers=None if self._run.route_layers is None else self._run.layers,
            cheapest=self._run.cheapest,
        )

    def routed(self, plane: Plane, routes: Routes) -> Routed:
        branches_NL = routes.branches_NL
        n_big_N = branch_counts(branches_NL, Branch.BIG).astype(np.int64)
        real_N = self._own(branches_NL)
        rank_N = np.full(len(branches_NL), np.nan)
        if self._committed:
            matched_N = self._drawn_like(n_big_N)
            loss_N = real_N
        else:
            matched_N = plane.random_KN[n_big_N, np.arange(len(n_big_N))]
            loss_N = np.concatenate([self._losses(i, branches_NL[rows]) for i, rows in enumerate(self._rows)])
            if self._tables.complete:
                ranks = [self._tables.ranks(i, loss_N[rows]) for i, rows in enumerate(self._rows)]
                rank_N = np.concatenate(ranks)
        return Routed(routes.name, branches_NL, loss_N, matched_N, rank_N, real_N, routes.causal, routes.budget)

    def notes(self, plane: Plane) -> list[str]:
        said = [plane.missing_for_average] if plane.missing_for_average else []
        if self._committed:
            said.append(
                f"committed: a router's loss is that of its own plain pass; fixed patterns are the best of "
                f"{self._tables.per_budget} random ones per budget, run by all tokens; random routing is {DRAWS} real passes"
            )
        elif not self._tables.complete:
            said.append(
                f"no kept losses: fixed and random patterns are {self._tables.per_budget} random ones per budget, and ranks are "
                "unknown (search with `keep='losses'`)"
            )
        if self._warm:
            said.append("no gap excess: the run's labels were drawn at another temperature than all-big's own")
        if len(np.unique(self._document_N)) < 2:
            said.append("one document: no fixed pattern can be chosen on others, and no interval drawn")
        return said

    @property
    def _warm(self) -> bool:
        """Whether the run's labels were drawn from a calibrated all-big, whose temperatures are the search's own knowledge."""
        return self._run.identity.get("null_temperature", 1.0) != 1.0

    def _losses(self, number: int, branches_TL: np.ndarray) -> np.ndarray:
        """What the patterns cost at one sequence's positions in the run's context."""
        found_T = self._tables.losses_of(number, branches_TL)
        unknown = np.flatnonzero(np.isnan(found_T))
        if len(unknown):
            scorer = scorer_of(self._model, self._sequences[number], self._tokens[number], self._problem, NullLabels())
            found_T[unknown] = scored(scorer, unknown, branches_TL[unknown])
        return found_T

    def _fixed(self) -> tuple[np.ndarray, np.ndarray, tuple[str | None, ...]]:
        """fixed_KN; the pattern (an index into the tables) of each budget and sequence, -1 where there is none; and the names of
        those that are best in-sample."""
        tables = self._tables
        documents, of_sequence = np.unique([sequence.document for sequence in self._sequences], return_inverse=True)
        sum_DP = np.zeros((len(documents), len(tables.branches_PL)))
        for number, document in enumerate(of_sequence):
            sum_DP[document] += tables.losses(number).sum(axis=0)
        n_big_P = branch_counts(tables.branches_PL, Branch.BIG)
        fixed_KN = np.full((self._n_letters + 1, len(self._document_N)), np.nan)
        chosen = np.full((self._n_letters + 1, len(self._sequences)), -1)
        in_sample: list[str | None] = []
        total_P = sum_DP.sum(axis=0)
        for k in range(self._n_letters + 1):
            mine = np.flatnonzero(n_big_P == k)
            in_sample.append(to_strings(tables.branches_PL[[mine[total_P[mine].argmin()]]])[0] if len(mine) else None)
            if len(mine) and len(documents) > 1:
                best_D = mine[(total_P - sum_DP)[:, mine].argmin(axis=1)]
                chosen[k] = best_D[of_sequence]
        for number, rows in enumerate(self._rows):
            known = np.flatnonzero(chosen[:, number] >= 0)
            fixed_KN[known, rows] = tables.losses(number)[:, chosen[known, number]].T
        return fixed_KN, chosen, tuple(in_sample)

    def _random(self) -> tuple[np.ndarray, np.ndarray]:
        """random_KN and random_rank_KN."""
        shape = (self._n_letters + 1, len(self._document_N))
        random_KN, rank_KN = np.full(shape, np.nan), np.full(shape, np.nan)
        n_big_P = branch_counts(self._tables.branches_PL, Branch.BIG)
        budgets = np.unique(n_big_P).tolist()
        if self._committed:
            for k in budgets:
                random_KN[k] = self._drawn_like(np.full(shape[1], k))
            return random_KN, rank_KN
        for number, rows in enumerate(self._rows):
            loss_TP = self._tables.losses(number)
            rank_TP = self._tables.all_ranks(number) if self._tables.complete else np.full_like(loss_TP, np.nan)
            for k in budgets:
                random_KN[k, rows] = loss_TP[:, n_big_P == k].mean(axis=1)
                rank_KN[k, rows] = rank_TP[:, n_big_P == k].mean(axis=1)
        return random_KN, rank_KN

    def _drawn_like(self, n_big_N: np.ndarray) -> np.ndarray:
        """Mean loss over real passes in which each token takes a random pattern with its number of B's."""
        generator = np.random.default_rng((self._seed, 2))
        cheap = [int(branch) for branch in self._problem.branches if branch is not Branch.BIG] or [int(Branch.BIG)]
        loss_N = np.zeros(len(n_big_N))
        for _ in range(DRAWS):
            rank_NL = generator.random((len(n_big_N), self._n_letters)).argsort(axis=1).argsort(axis=1)
            cheap_NL = np.array(cheap, dtype=np.uint8)[generator.integers(len(cheap), size=rank_NL.shape)]
            mask_NL = np.where(rank_NL < n_big_N[:, None], np.uint8(Branch.BIG), cheap_NL)
            loss_N += self._own(mask_NL) / DRAWS
        return loss_N

    def _own(self, mask_NL: np.ndarray) -> np.ndarray:
        """The losses of plain passes over all sequences with these masks."""
        pairs = zip(self._sequences, self._rows, strict=True)
        return np.concatenate([window_losses(self._model, window, mask_NL[rows], self._problem.skip) for window, rows in pairs])

    def _gap_excess(self, fixed_KN: np.ndarray, chosen: np.ndarray, oracles: dict[int, Oracle], big_N: np.ndarray) -> np.ndarray:
        """(fixed - oracle) - the same on labels drawn from all-big: what of the gap would not be there were all-big the truth.

        On drawn labels the gap is selection bias, and what coming nearer to all-big than a fixed pattern does is worth; the latter
        can be learned.

        The run's null gain counts from all-big; what the fixed pattern has over all-big on the same drawn labels is scored here.
        """
        gap_excess_KN = np.full_like(fixed_KN, np.nan)
        draws = int(self._run.identity.get("null_draws") or 0)
        if self._committed or not draws or not oracles or self._warm:
            return gap_excess_KN
        null = NullLabels(draws, int(self._run.identity["seed"]))
        big_L = np.full(self._n_letters, Branch.BIG, dtype=np.uint8)
        ks = [k for k in sorted(oracles) if (chosen[k] >= 0).all()]
        for number, rows in enumerate(self._rows):
            scorer = scorer_of(self._model, self._sequences[number], self._tokens[number], self._problem, null)
            n_positions = self._sequences[number].n_positions
            patterns_PL = np.stack([*(self._tables.branches_PL[chosen[k, number]] for k in ks), big_L])
            pattern_R, place_R, label_R = (a.ravel() for a in np.mgrid[: len(patterns_PL), :n_positions, 1 : draws + 1])
            loss_R = scored(scorer, place_R, patterns_PL[pattern_R], label_R)
            loss_PN = loss_R.reshape(len(patterns_PL), n_positions, draws).mean(axis=2)
            for row, k in enumerate(ks):
                oracle = oracles[k]
                real_N = fixed_KN[k, rows] - oracle.loss_N[rows]
                null_gain_N = (big_N[rows] - oracle.loss_N[rows]) - oracle.excess_N[rows]
                gap_excess_KN[k, rows] = real_N - (loss_PN[row] - loss_PN[-1] + null_gain_N)
        return gap_excess_KN


def _stored(run: StoredRun, tokens: pa.Table) -> tuple[dict[int, Oracle], Oracle | None, bool, np.ndarray, np.ndarray]:
    """The run's oracles by whole budget and without one, whether the former are "at most", and all-small and all-big."""
    paths = read_paths(run, tokens, run.budgets, ("pattern", "loss", "excess", "loss_cheapest", "loss_full"))
    parsed = [run.budget(text) for text in run.budgets]
    at_most = not any(budget.kind is BudgetKind.EXACT for budget in parsed)
    oracles: dict[int, Oracle] = {}
    any_oracle: Oracle | None = None
    for budget, rows in zip(parsed, paths.values(), strict=True):
        oracle = Oracle(numbers(rows["loss"]), branches_of(rows["pattern"]), numbers(rows["excess"]))
        if budget.n_big is None:
            any_oracle = oracle
        elif at_most or budget.kind is BudgetKind.EXACT:
            oracles[budget.n_big] = oracle
    first = paths[run.budgets[0]]
    return oracles, any_oracle, at_most, numbers(first["loss_cheapest"]), numbers(first["loss_full"])
