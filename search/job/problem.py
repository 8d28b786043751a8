"""The resolved question of a run: what every worker needs besides the model and the sequences.

Knows no files, no Ray and no command line. Everything in it is a plain value, so that it pickles and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from duo_oracle.oracle.branches import Branch, BranchTable
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.contexts import Context, SkipReading
from duo_oracle.oracle.spaces import SearchSpace


class Objective(StrEnum):
    LABEL = "label"  # each earlier token ran the best pattern for its real label
    REFERENCE = "reference"  # each earlier token ran the pattern of least expected loss under the reference


class Keep(StrEnum):
    NONE = "none"  # the oracle paths alone
    LOSSES = "losses"  # and every pattern's loss for every position
    TRIALS = "trials"  # and every evaluated pattern in the order in which it was asked for


@dataclass(frozen=True)
class Problem:
    """What is searched, under which constraint and context, how, and what is kept of it."""

    n_letters: int
    table: BranchTable
    budgets: tuple[Budget, ...]
    context: Context
    skip: SkipReading
    strategy: str
    settings: dict[str, str] = field(default_factory=dict)  # the strategy's own, unparsed
    null_draws: int = 0  # labels per position drawn from the all-big pattern's distribution
    null_temperature: float = 1.0  # of that distribution, unless one was fitted for the document
    null_temperatures: dict[str, float] = field(default_factory=dict)  # by document, fitted on the others
    seed: int = 0
    keep: Keep = Keep.NONE
    memory_bytes: int = 1 << 30  # bound on one worker's working memory
    tolerance: float = 0.0  # nats: a token whose losses are found to be under it is done without its tree
    objective: Objective = Objective.LABEL  # what commits a pattern, in context committed

    @property
    def branches(self) -> tuple[Branch, ...]:
        """What a letter may be."""
        return self.table.branches

    @property
    def by_reference(self) -> bool:
        """Whether what is committed is the reference's choice."""
        return self.objective is Objective.REFERENCE

    @property
    def used_branches(self) -> set[Branch]:
        """The branches that tokens may take, as candidates or as context."""
        return {*self.branches, *(self.context.pattern.branches if self.context.pattern is not None else ())}

    def spaces(self) -> tuple[SearchSpace, ...]:
        """The search space of every budget, in their order. Raises InputError where one holds no pattern."""
        return tuple(SearchSpace(self.n_letters, self.branches, budget) for budget in self.budgets)
