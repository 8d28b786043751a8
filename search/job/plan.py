"""What a search is going to do, as it says at once: windows, tokens, patterns a token, workers; and how long it may take, by trial.

The trial searches the first positions of the first windows and keeps nothing. Knows no pools and no files.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.job.asked import Nowhere
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.job.worker import Solve
from duo_oracle.search.strategy import load_strategy

_WARM_UP = 1  # positions that are searched first and not timed: a process is slow at first, by seconds
_TRIED_POSITIONS = (1, 4, 16, 64)  # of each window, a larger trial after each that was quick
_TRIED_SECONDS = 0.5
_TRIED_WINDOWS = 16


class Survey:
    """Counts what is read: windows, documents, positions. `counted` passes windows on."""

    def __init__(self) -> None:
        self.n_windows = self.n_positions = self.n_documents = 0
        self._document: str | None = None

    def counted(self, windows: Iterable[Window]) -> Iterator[Window]:
        for window in windows:
            self.n_windows += 1
            self.n_positions += window.n_positions
            if window.document != self._document:
                self.n_documents, self._document = self.n_documents + 1, window.document
            yield window


@dataclass(frozen=True)
class Plan:
    """A search as it is begun or resumed. `str()` is one line."""

    n_windows: int
    n_documents: int
    n_positions: int
    n_done: int
    n_units: int
    patterns: str
    workers: str
    split: bool

    def __str__(self) -> str:
        said = [
            f"{counted(self.n_windows, 'window')} of {counted(self.n_documents, 'document')}",
            f"{counted(self.n_positions, 'token')} to score" + (f", {self.n_done:,} done" if self.n_done else ""),
            self.patterns,
            f"{counted(self.n_units, 'unit')} {self.workers}",
        ]
        return " · ".join(said)

    @property
    def warning(self) -> str | None:
        """What to know before a long search that will have no interval."""
        if self.n_documents > 1:
            return None
        how = (
            "search more documents" if self.split else "`split='blank-lines'` or `split=512` (tokens) makes documents of its parts"
        )
        return f"one document has no interval and no other to choose a fixed pattern on: {how}"


def counted(n: int, what: str) -> str:
    """
    >>> counted(1, "window"), counted(1200, "token")
    ('1 window', '1,200 tokens')
    """
    return f"{n:,} {what}{'s' * (n != 1)}"


def patterns_said(problem: Problem) -> str:
    """How many patterns a token is searched for: of every budget's pass in a committed context, else of one pass for all."""
    n_budgets = len(problem.budgets)
    budgets = f"{n_budgets} budgets" if n_budgets > 1 else f"budget {problem.budgets[0]}"
    if not load_strategy(problem.strategy).covers_space:
        n = max(space.size for space in problem.spaces())
        return f"patterns proposed by {problem.strategy} out of {n:,} a token ({budgets})"
    labels = f", {problem.null_draws} drawn labels" if problem.null_draws else ""
    return f"{n_patterns(problem):,} patterns a token ({budgets}{labels})"


def n_patterns(problem: Problem) -> int:
    """Patterns a token that an exhaustive search covers."""
    if problem.context.kind is ContextKind.COMMITTED:
        return sum(space.size for space in problem.spaces())
    costs = {cost for budget in problem.budgets for cost in _costs(budget, problem.n_letters)}
    return sum(_of_cost(problem, cost) for cost in costs)


def _costs(budget: Budget, n_letters: int) -> range:
    low, high = budget.bounds(n_letters)
    return range(low, high + 1)


def _of_cost(problem: Problem, cost: int) -> int:
    try:
        return SearchSpace(problem.n_letters, problem.branches, Budget(BudgetKind.EXACT, cost)).size
    except ValueError:  # no pattern costs so much
        return 0


def tried(model: OracleModel, windows: Iterable[Window], problem: Problem, solve: Solve, unit_sequences: int) -> float | None:
    """Seconds that a worker takes a position, by searching the first of some windows; None where none can be shortened.

    Trials grow until one took half a second.
    """
    few = list(islice(windows, min(unit_sequences, _TRIED_WINDOWS)))
    seconds = None
    solve(model, [_shortened(window, _WARM_UP) for window in few[:1]], problem, Nowhere())  # type: ignore[arg-type]
    for n_positions in _TRIED_POSITIONS:
        short = [_shortened(window, n_positions) for window in few]
        started = time.monotonic()
        solve(model, short, problem, Nowhere())  # type: ignore[arg-type]
        seconds = time.monotonic() - started
        if seconds > _TRIED_SECONDS or _whole(short, few):
            break
    return None if seconds is None else seconds / sum(window.n_positions for window in short)


def _shortened(window: Window, n_positions: int) -> Window:
    """The window up to its n-th scored position."""
    n = min(n_positions, window.n_positions)
    if n == window.n_positions:
        return window
    shorter: dict[str, Any] = {"token_ids": window.token_ids[: window.n_warm + n + 1]}
    if isinstance(window, RoutedSequence):
        shorter["mask_NL"] = window.mask_NL[:n]
    if window.reference is not None:
        shorter["reference"] = window.reference.at(slice(0, n))
    return replace(window, **shorter)


def _whole(short: Sequence[Window], windows: Sequence[Window]) -> bool:
    return all(a.n_positions == b.n_positions for a, b in zip(short, windows, strict=True))


def pace_said(seconds: float) -> str:
    """
    >>> pace_said(0.00042), pace_said(0.0312), pace_said(0.6564), pace_said(6.564)
    ('0.42 ms', '31 ms', '656 ms', '6.6 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.2f} ms" if seconds < 0.001 else f"{seconds * 1000:.0f} ms"


def duration_said(seconds: float) -> str:
    """
    >>> duration_said(0.4), duration_said(48), duration_said(400), duration_said(9000), duration_said(400_000)
    ('a second', '48 seconds', '7 minutes', '2.5 hours', '4.6 days')
    """
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} days"
