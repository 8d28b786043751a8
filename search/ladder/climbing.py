"""The ladder of a run: every rung's choices at the run's positions, each realised on the real label in the run's context.

Axes: N tokens of the run, L routed layer, K branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.scorer import scored
from duo_oracle.oracle.model import token_ids_on
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.ladder.rungs import Ladder, Rung
from duo_oracle.results.statistics.ridge import cross_fitted, explained, folds_of, means_of_others
from duo_oracle.results.store.positions import numbers, read_paths, read_tokens
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.search.asking.sums import least_sums
from duo_oracle.search.job.unit import scorer_of
from duo_oracle.search.ladder.probes import Router, States, layer_choices
from duo_oracle.search.ladder.worth import Worth, n_big, worth_of_run
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.references import has_reference, with_reference
from duo_oracle.search.rerun.routers import routes_of


@dataclass(frozen=True)
class Climb:
    """How a ladder is made."""

    budgets: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    reference: str | None = None  # where the run's reference lies now
    sample: int = 8  # patterns of each number of B's that effects are measured on
    folds: int = 5
    rounds: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Climbed:
    """A ladder for each budget, and what is to be said of them, a line each."""

    ladders: tuple[Ladder, ...]
    notes: tuple[str, ...]


def climb(opened: OpenedRun, how: Climb) -> Climbed:
    """The ladders of a run.

    Raises InputError for a run whose positions have no one context (committed, same), for one document, for a budget that was not
    searched, a router that does not fit, and a reference or data that are not the run's.
    """
    run = opened.run
    run.check_letters("a ladder")
    if opened.problem.context.kind in (ContextKind.COMMITTED, ContextKind.SAME):
        raise InputError(
            "a ladder stands in a context in which the earlier tokens have one routing: full, cheapest, a pattern or a router; "
            f"{run.place} has {run.context}"
        )
    if len(opened.problem.branches) < 2:
        raise InputError(f"a ladder is of choices; {run.place} compares the branch {run.identity['branches']!r} alone")
    work = _Work(opened, how)
    return Climbed(
        tuple(work.ladder(run.budget(text)) for text in how.budgets or default_budgets(run.budgets)), tuple(work.notes())
    )


def default_budgets(budgets: Sequence[str]) -> tuple[str, ...]:
    """Of the budgets that a run was searched under, `any`, and of the whole ones the middle one; else the first.

    >>> default_budgets(("any", "0", "1", "2", "3", "4"))
    ('any', '2')
    """
    whole = [text for text in budgets if text.isdecimal()]
    found = [text for text in ("any", *whole[(len(whole) - 1) // 2 :][:1]) if text in budgets]
    return tuple(found) or tuple(budgets[:1])


class _Work:
    """One climb: the run's positions, in one order, and what is known of every branch there."""

    def __init__(self, opened: OpenedRun, how: Climb) -> None:
        self._opened, self._how, self._run = opened, how, opened.run
        self._problem, self._branches = opened.problem, opened.problem.branches
        self._positions = read_tokens(opened.run)
        self._document_N = np.array(self._positions["document"].to_pylist())
        self._fold_N = folds_of(self._document_N, how.folds)
        self._has_reference = has_reference(opened)
        windows = with_reference(opened, opened.sequences, how.reference)
        self._worth: Worth = worth_of_run(opened, windows, how.sample, how.seed)
        self._real_NLK = self._worth.effects(self._worth.real_NP)
        self._taught = {"real": self._real_NLK}
        if self._worth.expected_NP is not None:
            self._taught = {"expected": self._worth.effects(self._worth.expected_NP), **self._taught}
        self._routes = [routes_of(text, opened) for text in how.routers]
        self._router = Router(opened, opened.sequences)

    @cached_property
    def _states(self) -> States:
        return self._router.states_of_full()

    @cached_property
    def _predicted(self) -> dict[tuple[str, str], np.ndarray]:
        """effect_NLK by kind of probe and what taught it: on the last state, of other documents' tokens."""
        features = {"linear probe": self._states.last_ND, "two-layer probe": self._states.wider(self._how.seed)}
        return {
            (name, taught): self._with_first(cross_fitted(x_NF, self._flat(effect_NLK), self._fold_N))
            for name, x_NF in features.items()
            for taught, effect_NLK in self._taught.items()
        }

    def ladder(self, budget: Budget) -> Ladder:
        columns = ["pattern", "loss", "loss_full", "excess", *(["ref_pattern", "ref_loss"] if self._has_reference else [])]
        rows = read_paths(self._run, self._positions, (str(budget),), columns)[str(budget)]
        space = SearchSpace(self._problem.n_letters, self._branches, budget)
        full_N, hindsight_NL = numbers(rows["loss_full"]), branches_of(rows["pattern"])
        fixed_NL = self._least(space, self._with_first(means_of_others(self._flat(self._real_NLK), self._fold_N)))
        rungs = [Rung("hindsight", "hindsight", numbers(rows["loss"]), n_big(hindsight_NL))]
        excess_N = numbers(rows["excess"])
        if not np.isnan(excess_N).any():
            rungs.append(Rung("hindsight less selection bias (excess)", "excess", full_N - excess_N, np.full(len(full_N), np.nan)))
        if self._has_reference:
            rungs.append(Rung("reference", "reference", numbers(rows["ref_loss"]), n_big(branches_of(rows["ref_pattern"]))))
        random_N = self._worth.random_loss(budget)
        if random_N is not None:
            rungs.append(Rung("random pattern", "random", random_N, np.full(len(full_N), self._mean_big(space))))
        chosen = [
            ("best fixed pattern", "fixed", None, fixed_NL),
            ("previous token's path", "previous", None, self._previous(hindsight_NL, fixed_NL)),
            *self._of_probes(space),
            *((found.name, "router", None, found.branches_NL) for found in self._routes if _near(found.branches_NL, budget)),
        ]
        losses = self._realised([branches_NL for *_, branches_NL in chosen])
        rungs += [
            Rung(name, kind, loss_N, n_big(branches_NL), taught)
            for (name, kind, taught, branches_NL), loss_N in zip(chosen, losses, strict=True)
        ]
        return Ladder(str(budget), self._document_N, full_N, tuple(rungs))

    def _of_probes(self, space: SearchSpace) -> list[tuple[str, str, str | None, np.ndarray]]:
        found: list[tuple[str, str, str | None, np.ndarray]] = []
        shuffled_N = np.random.default_rng((self._how.seed, 4)).permutation(len(self._document_N))
        for (name, taught), effect_NLK in self._predicted.items():
            found.append((f"{name}, last state, taught {taught}", "probe", taught, self._least(space, effect_NLK)))
        first = next(iter(self._taught))
        shuffled_NLK = self._predicted["linear probe", first][shuffled_N]
        found.append(("linear probe, its predictions shuffled", "shuffled", first, self._least(space, shuffled_NLK)))
        counted = space.budget.n_big if space.budget.kind is BudgetKind.EXACT else None
        layered = space.budget.n_big is None or (counted is not None and 0 < counted < space.n_letters)
        if layered and (counted is None or Branch.BIG in self._branches):
            for taught, effect_NLK in self._taught.items():
                routed_NL = layer_choices(
                    self._router, self._states, effect_NLK, self._fold_N, self._branches, counted, self._how.rounds
                )
                found.append((f"linear probe, states at the layers, taught {taught}", "layer probe", taught, routed_NL))
        if "expected" in self._taught:
            found.append(("reference, effects of layers added up", "additive", None, self._least(space, self._taught["expected"])))
        return found

    def notes(self) -> list[str]:
        said = [
            f"effects of branches from {len(self._worth.branches_PL)} patterns a token; probes and the fixed pattern are learnt "
            f"from other documents ({len(np.unique(self._fold_N))} folds); the states at the layers are those that the probe's own "
            "choices leave"
        ]
        for (name, taught), effect_NLK in self._predicted.items():
            target_NC = self._flat(self._taught[taught])
            r2 = explained(target_NC, self._flat(effect_NLK), means_of_others(target_NC, self._fold_N))
            said.append(f"{name}, last state: R^2 of {taught} effects {r2:.3f}")
        if not self._has_reference:
            said.append("no reference: what can be reached is not on this ladder (search with `reference='self'`)")
        return said

    def _least(self, space: SearchSpace, effect_NLK: np.ndarray) -> np.ndarray:
        return least_sums(space, effect_NLK)[:, 0]

    def _mean_big(self, space: SearchSpace) -> float:
        return sum(k * size for k, size in enumerate(space.sizes_by_cost)) / space.size

    def _previous(self, path_NL: np.ndarray, first_NL: np.ndarray) -> np.ndarray:
        """The path of the position before, in the same window; at a window's first position the fixed pattern."""
        found_NL = np.roll(path_NL, 1, axis=0)
        for rows in self._router.rows:
            found_NL[rows.start] = first_NL[rows.start]
        return found_NL

    def _realised(self, choices: list[np.ndarray]) -> list[np.ndarray]:
        """The real labels' losses of the choices at all positions."""
        loss_CN = np.empty((len(choices), len(self._document_N)))
        for window, rows in zip(self._router.windows, self._router.rows, strict=True):
            token_id_T = token_ids_on(self._opened.model.device, window.token_ids)
            scorer = scorer_of(self._opened.model, window, token_id_T, self._problem, NullLabels())
            branches_RL = np.concatenate([branches_NL[rows] for branches_NL in choices])
            place_R = np.tile(np.arange(window.n_positions), len(choices))
            loss_CN[:, rows] = scored(scorer, place_R, branches_RL).reshape(len(choices), -1)
        return list(loss_CN)

    def _flat(self, effect_NLK: np.ndarray) -> np.ndarray:
        """The effects of all branches but the first, from which they are counted: (N, L x (K - 1))."""
        return effect_NLK[..., 1:].reshape(len(effect_NLK), -1)

    def _with_first(self, effect_NC: np.ndarray) -> np.ndarray:
        effect_NLK = np.zeros_like(self._real_NLK)
        effect_NLK[..., 1:] = effect_NC.reshape(effect_NLK[..., 1:].shape)
        return effect_NLK


def _near(branches_NL: np.ndarray, budget: Budget) -> bool:
    """Whether a router of these choices belongs beside a budget: any, or the whole number nearest to its mean."""
    return budget.n_big is None or abs(float(n_big(branches_NL).mean()) - budget.n_big) <= 0.5
