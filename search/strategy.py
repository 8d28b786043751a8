"""The contract of a search strategy: it proposes patterns for many tokens side by side (`ask`), and hears their losses (`tell`).

A strategy knows the search space, its own settings and a generator; no model, no torch, no Ray, no files. Each file in
`search/strategies/` holds one, and the file's name is its name on the command line.

Axes: R rows (trials of any tokens), L layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from duo_oracle.oracle.base.choices import Choices
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import OwnSettings, read_settings
from duo_oracle.oracle.spaces import SearchSpace

STRATEGIES = Choices("strategy", "duo_oracle.search.strategies")


@dataclass(frozen=True)
class Proposals:
    """Patterns to evaluate: row r is for token `token_R[r]`, counted from 0."""

    token_R: np.ndarray  # int64
    branches_RL: np.ndarray  # uint8


@dataclass(frozen=True)
class Trials:
    """Evaluated proposals, in the order in which they were asked. A failed trial's loss means nothing."""

    token_R: np.ndarray  # int64
    branches_RL: np.ndarray  # uint8
    loss_R: np.ndarray  # float64, nats
    complete_R: np.ndarray  # bool


@dataclass(frozen=True)
class Settings(OwnSettings):
    """A strategy's own options; each strategy declares its own."""

    @property
    def pooled(self) -> bool:
        """Whether all tokens are searched as one set, so that a strategy's tokens are those of many sequences."""
        return False


class Strategy(ABC):
    """One search: `n_tokens` tokens over the same space, advanced side by side.

    Laws, tested over the folder's listing: proposals stay in the space (but for `proposes_outside_budget`); no pattern is
    proposed twice for a token (unless a setting says so); the search ends; equal generators give equal proposals; a failed
    trial ends nothing. They ship as `duo_oracle.search.testing.StrategyContract`.

    >>> from duo_oracle.oracle.budgets import parse_budgets
    >>> from duo_oracle.oracle.spaces import parse_branches
    >>> space = SearchSpace(2, parse_branches("sB"), parse_budgets("any", 2)[0])  # ss, sB, Bs, BB
    >>> strategy = build_strategy("exhaustive", {}, space, 1, np.random.default_rng(0))
    >>> asked = strategy.ask(3)  # at most three patterns for the one token
    >>> asked.branches_RL.shape
    (3, 2)
    >>> strategy.tell(Trials(asked.token_R, asked.branches_RL, np.array([4.0, 3.5, 3.7]), np.ones(3, dtype=bool)))
    >>> len(strategy.ask(3).token_R), len(strategy.ask(3).token_R)  # the fourth, then the end
    (1, 0)
    """

    Settings: ClassVar[type[Settings]] = Settings
    covers_space: ClassVar[bool] = False
    """Whether every pattern of the space is tried, so that an exact oracle may answer instead."""
    proposes_outside_budget: ClassVar[bool] = False
    """Whether patterns with another number of B's than the budget's are evaluated on the way; they are never the answer."""

    def __init__(self, space: SearchSpace, n_tokens: int, generator: np.random.Generator, settings: Any) -> None:
        self.space, self.n_tokens, self.generator, self.settings = space, n_tokens, generator, settings

    @abstractmethod
    def ask(self, n: int) -> Proposals:
        """At most `n` (at least 1) patterns per token to evaluate next. No rows: the search has ended."""

    @abstractmethod
    def tell(self, trials: Trials) -> None:
        """Hear what the last proposals scored, in their order."""


def load_strategy(name: str) -> type[Strategy]:
    """The strategy of that name. Raises InputError with the choices for another name."""
    module = STRATEGIES.module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InputError(f"strategy {name!r}: a module defines one Strategy; {STRATEGIES.find(name)} defines {len(found)}")
    return found[0]


def build_strategy(name: str, raw: dict[str, str], space: SearchSpace, n_tokens: int, generator: np.random.Generator) -> Strategy:
    """The strategy of that name with its settings. Raises InputError for settings that are none, or do not fit the space."""
    return load_strategy(name)(space, n_tokens, generator, parse_settings(name, raw))


def parse_settings(name: str, raw: dict[str, str]) -> Settings:
    """The strategy's settings with the given values in place of defaults. Raises InputError as `read_settings`."""
    return read_settings(f"strategy {name}", load_strategy(name).Settings, raw)
