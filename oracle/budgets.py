"""Budgets: the constraint on how many B's one token's pattern has.

Knows patterns as counts only. Written `any`, `4` (exactly four), `0-12` (thirteen answers), `atmost:4`, or several with
commas between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from duo_oracle.oracle.base.errors import InputError


class BudgetKind(StrEnum):
    ANY = "any"
    EXACT = "exact"
    ATMOST = "atmost"


@dataclass(frozen=True)
class Budget:
    """One budget: any number of B's, exactly `n_big`, or at most `n_big` (None for any)."""

    kind: BudgetKind
    n_big: int | None = None

    def __str__(self) -> str:
        return {"any": "any", "exact": f"{self.n_big}", "atmost": f"atmost:{self.n_big}"}[self.kind]

    def bounds(self, n_letters: int) -> tuple[int, int]:
        """The least and the greatest total of B's that the budget admits of patterns of `n_letters` letters."""
        if self.n_big is None:
            return 0, n_letters
        return (self.n_big if self.kind is BudgetKind.EXACT else 0), self.n_big

    def allows(self, n_letters: int) -> np.ndarray:
        """Which totals of B's the budget admits: bool, shape (n_letters + 1,)."""
        totals = np.arange(n_letters + 1)
        if self.n_big is None:
            return np.ones(n_letters + 1, dtype=bool)
        return totals == self.n_big if self.kind is BudgetKind.EXACT else totals <= self.n_big


ANY = Budget(BudgetKind.ANY)
_FORM = re.compile(r"(?P<kind>atmost:)?(?P<low>\d+)(?:-(?P<high>\d+))?")


def parse_budgets(text: str, n_letters: int) -> tuple[Budget, ...]:
    """The budgets that `text` writes, in its order, each once.

    Raises InputError for another form, a budget above the number of layers, a falling range, and for `average:`, which
    is a question to results and not a search.
    """
    budgets: list[Budget] = []
    for part in text.split(","):
        part = part.strip()
        if part == "any":
            budgets.append(ANY)
            continue
        if part.startswith("average"):
            raise InputError(
                "an average budget is answered from a run's per-budget results, not searched; search `budget=0-"
                f"{n_letters}` and then compare; got {part!r}"
            )
        form = _FORM.fullmatch(part)
        if form is None:
            raise InputError(f"a budget is any, K, LOW-HIGH or atmost:K, several with commas between; got {part!r}")
        low, high = int(form["low"]), int(form["high"] or form["low"])
        if low > high:
            raise InputError(f"a budget's range rises; got {part!r}")
        if high > n_letters:
            raise InputError(f"a budget is at most the model's {n_letters} layers; got {part!r}")
        kind = BudgetKind.ATMOST if form["kind"] else BudgetKind.EXACT
        budgets.extend(Budget(kind, n_big) for n_big in range(low, high + 1))
    return tuple(dict.fromkeys(budgets))
