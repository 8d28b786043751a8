"""Where a search begins: patterns named small, big, spread or by their letters, and the nearest to them in a budget.

Axes: L layers.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import LETTERS, Branch, RoutingPattern
from duo_oracle.oracle.spaces import SearchSpace


def is_pattern(text: str) -> bool:
    """Whether `text` is written with the letters of a pattern (of any length)."""
    return bool(text) and set(text) <= set(LETTERS)


def check_start(key: str, text: str, names: tuple[str, ...]) -> None:
    """Raises InputError for a start that is none of `names` and no pattern."""
    if not is_pattern(text):
        check_choice(key, text, (*names, "a pattern such as sBsB"))


def named_start(space: SearchSpace, text: str) -> np.ndarray:
    """uint8 (L,), whatever its budget, but for `spread`.

    `small`: the same branch everywhere, small where it is allowed, else skip. `big`: the costliest allowed everywhere.
    `spread`: as many B's as the budget admits that is nearest to half the layers, evenly spread, the rest as in small. Or the
    pattern that `text` writes. Raises InputError for a pattern of other branches or another length.
    """
    if is_pattern(text):
        pattern = RoutingPattern.parse(text, space.n_letters)
        if not set(pattern.branches) <= set(space.branches):
            letters = "".join(branch.letter for branch in space.branches)
            raise InputError(f"a start takes the allowed branches, {letters!r}; got {text!r}")
        return np.array(pattern.branches, dtype=np.uint8)
    if text == "spread":
        totals = np.flatnonzero(space.sizes_by_big)
        return _spread(space, int(totals[np.abs(totals - space.n_letters / 2).argmin()]))
    order = (Branch.SMALL, Branch.SKIP, Branch.BIG) if text == "small" else tuple(reversed(Branch))
    return np.full(space.n_letters, next(branch for branch in order if branch in space.branches), dtype=np.uint8)


def start_in_budget(space: SearchSpace, text: str) -> np.ndarray:
    """As `named_start`, and in the budget: `small` has the fewest B's that it admits, `big` the most, evenly spread over the
    layers; a pattern must be in it. uint8 (L,).
    """
    start_L = named_start(space, text)
    if space.contains(start_L[None])[0]:
        return start_L
    if is_pattern(text):
        raise InputError(f"a start has the search's budget, {space.budget}; got {text!r}")
    totals = np.flatnonzero(space.sizes_by_big)
    return _spread(space, int(totals[0] if text == "small" else totals[-1]))


def _spread(space: SearchSpace, n_big: int) -> np.ndarray:
    start_L = named_start(space, "small")
    start_L[((np.arange(n_big) + 0.5) * space.n_letters / max(n_big, 1)).astype(np.int64)] = Branch.BIG
    return start_L
