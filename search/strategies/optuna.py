"""Optuna's samplers by name (tpe, gp, cmaes, nsgaii, random, bruteforce, qmc, ...), asked and told in batches.

TPE: Bergstra et al. 2011; NSGA-II: Deb et al. 2002; CMA-ES: Hansen and Ostermeier 2001; Optuna: Akiba et al. 2019. Two scopes:

    token   a study per token. A suggestion takes milliseconds, mostly more than scoring it, so this is for comparison.
    fixed   one study, one pattern for all tokens, told their mean loss: the search for the best fixed pattern.

Budgets hold by construction. A layer's branch is a categorical parameter, which under a budget is a wish: where more layers
wish to be big than may, those that are it are drawn among them, where fewer do than must, the rest is drawn among the
others. (Priorities of which the k greatest are big repeat themselves: TPE came to 26 different patterns in 100 trials with
them, and to 72 with wishes.) Samplers of numbers take a number per layer, and under a budget a priority. No trial is thrown
away: a suggestion that was evaluated before is told its known loss, and is a trial of the study, but no new evaluation.

Axes: N tokens, R rows, L layers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import Trial, TrialState

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import setting
from duo_oracle.oracle.branches import Branch, code_costs
from duo_oracle.oracle.budgets import BudgetKind
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search import strategy
from duo_oracle.search.asking.rounds import Rounds, RoundStrategy
from duo_oracle.search.strategy import Proposals

_SAMPLERS = {
    name.removesuffix("Sampler").lower(): getattr(optuna.samplers, name)
    for name in dir(optuna.samplers)
    # the first are not samplers of their own, and a grid would hold every point of the space in memory
    if name.endswith("Sampler") and name not in ("BaseSampler", "BaseGASampler", "PartialFixedSampler", "GridSampler")
}
_OF_NUMBERS = ("cmaes", "qmc")  # these draw categorical parameters at random


class Scope(StrEnum):
    TOKEN = "token"
    FIXED = "fixed"


class Optuna(RoundStrategy):
    @dataclass(frozen=True)
    class Settings(strategy.Settings):
        sampler: str = setting("tpe", "Optuna's, by name", choices=sorted(_SAMPLERS))
        trials: int = setting(100, "suggestions per study", least=1)
        scope: str = setting("token", "token or fixed", choices=Scope)
        batch: int = setting(1, "suggestions asked for at a time", least=1)
        pareto: bool = setting(False, "mean loss against cost, both the less the better (scope fixed, budget any or atmost)")
        journal: str = setting("", "file that keeps the study (scope fixed), for optuna-dashboard")

        def __post_init__(self) -> None:
            super().__post_init__()
            for key in ("pareto", "journal"):
                if getattr(self, key) and not self.pooled:
                    raise InputError(f"setting {key} of strategy optuna needs scope=fixed: with scope=token each token has a study")
            _sampler(self.sampler, seed=0)

        @property
        def pooled(self) -> bool:
            return self.scope == Scope.FIXED

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        super().__init__(space, n_tokens, generator, settings)
        if settings.pareto and space.budget.kind is BudgetKind.EXACT:
            raise InputError(f"pareto weighs loss against cost: the budget is any or atmost; got {space.budget}")
        self.remembers = not settings.pooled
        self._encoding = _Encoding(space, settings.sampler, generator)

    def search(self) -> Rounds:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return self._fixed() if self.settings.pooled else self._per_token()

    def _per_token(self) -> Rounds:
        seed_N = self.generator.integers(2**31, size=self.n_tokens)
        studies = [optuna.create_study(sampler=_sampler(self.settings.sampler, int(seed))) for seed in seed_N]
        for size in self._batches():
            trials = [[_ask(study, self._encoding) for _ in range(size)] for study in studies]
            branches_RL = np.array([self._encoding.branches(trial) for asked in trials for trial in asked], dtype=np.uint8)
            loss_R = yield Proposals(np.repeat(np.arange(self.n_tokens), size), branches_RL)
            for study, asked, loss_B in zip(studies, trials, loss_R.reshape(-1, size).tolist(), strict=True):
                for trial, loss in zip(asked, loss_B, strict=True):
                    _tell(study, trial, [loss])

    def _fixed(self) -> Rounds:
        study = self._journalled_study()
        told: dict[bytes, list[float]] = {}  # what each pattern was told
        for size in self._batches():
            trials = [_ask(study, self._encoding) for _ in range(size)]
            branches = [self._encoding.branches(trial) for trial in trials]
            for trial, text in zip(trials, self._encoding.strings(np.array(branches)), strict=True):
                trial.set_user_attr("pattern", text)
            new = [
                branches_L for branches_L in {row.tobytes(): row for row in branches}.values() if branches_L.tobytes() not in told
            ]
            if new:
                branches_RL = np.repeat(np.array(new, dtype=np.uint8), self.n_tokens, axis=0)
                loss_R = yield Proposals(np.tile(np.arange(self.n_tokens), len(new)), branches_RL)
                for branches_L, loss_N in zip(new, loss_R.reshape(len(new), -1), strict=True):
                    told[branches_L.tobytes()] = [float(loss_N.mean()), float(self.space.costs(branches_L))]
            for trial, branches_L in zip(trials, branches, strict=True):
                _tell(study, trial, told[branches_L.tobytes()][: 1 + self.settings.pareto])

    def _batches(self) -> Iterator[int]:
        left = self.settings.trials
        if self.settings.sampler == "bruteforce":  # has no suggestion beyond the last pattern
            left = min(left, self.space.size)
        while left:
            yield min(left, self.settings.batch)
            left -= min(left, self.settings.batch)

    def _journalled_study(self) -> optuna.Study:
        seed = int(self.generator.integers(2**31))
        sampler = _sampler(self.settings.sampler, seed)
        directions = ["minimize"] * (1 + self.settings.pareto)
        if not self.settings.journal:
            return optuna.create_study(sampler=sampler, directions=directions)
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(self.settings.journal))
        name = f"{self.settings.sampler} budget {self.space.budget} seed {seed}"
        with contextlib.suppress(KeyError):  # a search that is done again replaces its study
            optuna.delete_study(study_name=name, storage=storage)
        return optuna.create_study(study_name=name, storage=storage, sampler=sampler, directions=directions)


class _Encoding:
    """Which parameters a pattern is suggested by, and the pattern that their values are."""

    def __init__(self, space: SearchSpace, sampler: str, generator: np.random.Generator) -> None:
        self._space, self._generator = space, generator
        self._one_by_one, numbers = sampler == "bruteforce", sampler in _OF_NUMBERS
        totals = np.flatnonzero(space.sizes_by_cost)
        self._least, self._most = int(totals[0]), int(totals[-1])
        self._by_letter = {branch.letter: branch for branch in space.branches}
        self._cost_b = code_costs(space.branches)
        # with so many letters left, which totals can still come of each cost so far: bits of one number
        self._totals = sum(1 << int(total) for total in totals)
        self._rests = [sum(1 << cost for cost, ways in enumerate(space.ways(n)) if ways) for n in range(space.n_letters)]
        letters = tuple(branch.letter for branch in space.branches)
        self.distributions: dict[str, BaseDistribution] = {}
        for layer in range(space.n_letters if len(letters) > 1 else 0):
            self.distributions[f"branch {layer}"] = FloatDistribution(0, 1) if numbers else CategoricalDistribution(letters)

    def strings(self, branches_PL: np.ndarray) -> list[str]:
        """The patterns as their letters."""
        letter = {int(branch): branch.letter for branch in self._space.branches}
        return ["".join(letter[code] for code in row) for row in branches_PL.tolist()]

    def ask(self, study: optuna.Study) -> Trial:
        return study.ask() if self._one_by_one else study.ask(self.distributions)

    def branches(self, trial: Trial) -> np.ndarray:
        """The pattern that a trial suggests: uint8 (L,), in the space."""
        if self._one_by_one:
            return self._by_choices(trial)
        if not self.distributions:
            return np.full(self._space.n_letters, self._space.branches[0], dtype=np.uint8)
        wishes = [trial.params[f"branch {layer}"] for layer in range(self._space.n_letters)]
        branches_L = np.array([self._wished(wish) for wish in wishes], dtype=np.uint8)
        # ties among wishes are broken by draw, numbers are priorities
        order_L = [wish if isinstance(wish, float) else self._generator.random() for wish in wishes]
        if not self._space.counts_alone:
            return self._within(branches_L, np.argsort(-np.array(order_L), kind="stable"))
        costly = self._space.costly
        if costly is None:
            return branches_L
        first_to_be_big = np.lexsort((-np.array(order_L), branches_L != costly))
        n_big = int((branches_L == costly).sum())
        for layer in first_to_be_big[self._most : n_big]:
            branches_L[layer] = self._space.cheap[int(self._generator.integers(len(self._space.cheap)))]
        branches_L[first_to_be_big[n_big : self._least]] = costly
        return branches_L

    def _within(self, branches_L: np.ndarray, order: np.ndarray) -> np.ndarray:
        """The wishes kept in this order where the budget can still be met by the letters after them, else another by draw."""
        spent = 0
        for n_left, letter in zip(reversed(range(len(order))), order.tolist(), strict=True):
            if not self._reaches(spent + int(self._cost_b[branches_L[letter]]), n_left):
                fits = [branch for branch in self._space.branches if self._reaches(spent + branch.cost, n_left)]
                branches_L[letter] = fits[int(self._generator.integers(len(fits)))]
            spent += int(self._cost_b[branches_L[letter]])
        return branches_L

    def _reaches(self, spent: int, n_left: int) -> bool:
        """Whether so many more letters can bring the cost so far into the budget."""
        return bool((self._rests[n_left] << spent) & self._totals)

    def _wished(self, value: str | float) -> int:
        if isinstance(value, str):
            return self._by_letter[value]
        branches = self._space.branches
        return branches[min(int(value * len(branches)), len(branches) - 1)]

    def _by_choices(self, trial: Trial) -> np.ndarray:
        """Layer by layer among the branches from which the budget can still be met: a tree that brute force walks whole."""
        branches: list[Branch] = []
        for layer in range(self._space.n_letters):
            letters = []
            for branch in self._space.branches:
                spent = sum(taken.cost for taken in branches) + branch.cost
                if self._reaches(spent, self._space.n_letters - layer - 1):
                    letters.append(branch.letter)
            name = f"branch {layer} of {''.join(letters)}"
            letter = letters[0] if len(letters) == 1 else trial.suggest_categorical(name, letters)
            branches.append(self._by_letter[letter])
        return np.array(branches, dtype=np.uint8)


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna says of several samplers that their interface may change
        try:
            return _SAMPLERS[name](seed=seed)
        except ImportError as error:
            raise InputError(f"sampler {name} of Optuna needs the package {error.name}, which is not installed") from None


def _ask(study: optuna.Study, encoding: _Encoding) -> Trial:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encoding.ask(study)


def _tell(study: optuna.Study, trial: Trial, values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not np.isfinite(values).all():
            study.tell(trial, state=TrialState.FAIL)
            return
        # brute force stops its study when all is tried, and there is no loop here to be stopped
        with contextlib.suppress(RuntimeError):
            study.tell(trial, values)
