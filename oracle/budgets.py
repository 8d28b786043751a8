"""Budgets: the constraint on what one token's pattern costs: its B's, or its active experts.

Knows patterns by their cost only. Written `any`, `4` (exactly four), `0-12` (thirteen answers), `atmost:4`, or several with
commas between them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import whole


class BudgetKind(StrEnum):
    ANY = "any"
    EXACT = "exact"
    ATMOST = "atmost"


@dataclass(frozen=True)
class Budget:
    """One budget: any cost, exactly `n_big`, or at most `n_big` (None for any)."""

    kind: BudgetKind
    n_big: int | None = None

    def __str__(self) -> str:
        return {"any": "any", "exact": f"{self.n_big}", "atmost": f"atmost:{self.n_big}"}[self.kind]

    def bounds(self, most: int) -> tuple[int, int]:
        """The least and the greatest cost that the budget admits, of patterns that cost at most `most`."""
        if self.n_big is None:
            return 0, most
        return (self.n_big if self.kind is BudgetKind.EXACT else 0), self.n_big

    def allows(self, most: int) -> np.ndarray:
        """Which costs up to `most` the budget admits: bool, shape (most + 1,)."""
        totals = np.arange(most + 1)
        if self.n_big is None:
            return np.ones(most + 1, dtype=bool)
        return totals == self.n_big if self.kind is BudgetKind.EXACT else totals <= self.n_big


ANY = Budget(BudgetKind.ANY)
_FORM = re.compile(r"(?P<kind>atmost:)?(?P<low>\d+)(?:-(?P<high>\d+))?")


def parse_budgets(
    text: str, n_letters: int, each: int = 1, own: int | None = None, costs: Collection[int] | None = None
) -> tuple[Budget, ...]:
    """The budgets that `text` writes, in its order, each once, of patterns of `n_letters` letters that cost at most `each`.
    `own` is what the model's own router spends on a token, where it is a mixture of experts that spends the same on all; `costs`
    are what patterns cost, of which a range names those within it.

    Raises InputError for another form, a budget above the number of layers, a falling range, and for `average:`, which
    is a question to results and not a search.
    """
    budgets: list[Budget] = []
    for part in text.split(","):
        part = part.strip()
        if part == "any":
            budgets.append(ANY)
            continue
        if part == "own":
            if own is None:
                raise InputError(
                    "the budget own is what a mixture's own router spends, with branches of experts (top:, ranks:, sets:), where "
                    "all tokens have the same; of a threshold's tokens search each number, LOW-HIGH, and read own_cost; got own"
                )
            budgets.append(Budget(BudgetKind.EXACT, own))
            continue
        if part.startswith("average"):
            raise InputError(
                "an average budget is answered from a run's per-budget results, not searched; search `budget=0-"
                f"{n_letters * each}`, then compare, or ask the curve (`average`); got {part!r}"
            )
        form = _FORM.fullmatch(part)
        if form is None:
            raise InputError(f"a budget is any, K, LOW-HIGH or atmost:K, several with commas between; got {part!r}")
        low, high = whole(form["low"]), whole(form["high"] or form["low"])
        if low is None or high is None:
            raise InputError(f"a budget is a whole number of 64 bits; got {part!r}")
        if low > high:
            raise InputError(f"a budget's range rises; got {part!r}")
        if high > n_letters * each:
            most = f"the model's {n_letters} layers" if each == 1 else f"{n_letters * each}, {each} experts in {n_letters} layers"
            raise InputError(f"a budget is at most {most}; got {part!r}")
        kind = BudgetKind.ATMOST if form["kind"] else BudgetKind.EXACT
        named: Sequence[int] = range(low, high + 1)
        if costs is not None and low < high and kind is BudgetKind.EXACT:
            named = [n_big for n_big in named if n_big in costs]
            if not named:
                raise InputError(f"no pattern of these branches costs {part}; some cost {', '.join(map(str, sorted(costs)))}")
        budgets.extend(Budget(kind, n_big) for n_big in named)
    return tuple(dict.fromkeys(budgets))
