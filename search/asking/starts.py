"""Where a search begins: patterns named small, big, spread or by their letters, and the nearest to them in a budget.

Axes: L layers.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import LETTERS
from duo_oracle.oracle.spaces import SearchSpace


def is_pattern(text: str) -> bool:
    """Whether `text` is written with the letters of a pattern (of any length): . s B, or numbers of experts."""
    return bool(text) and (set(text) <= set(LETTERS) or text.isdecimal())


def check_start(key: str, text: str, names: tuple[str, ...]) -> None:
    """Raises InputError for a start that is none of `names` and no pattern."""
    if not is_pattern(text):
        check_choice(key, text, (*names, "a pattern such as sBsB"))


def named_start(space: SearchSpace, text: str) -> np.ndarray:
    """uint8 (L,), whatever its budget, but for `spread`.

    `small`: the same branch everywhere, the cheapest, small rather than skip. `big`: the costliest allowed everywhere.
    `spread`: of the cost that the budget admits that is nearest to half of the greatest, evenly spread, the rest as in small. Or
    the pattern that `text` writes. Raises InputError for a pattern of other branches or another length.
    """
    if is_pattern(text):
        of_letter = {branch.letter: branch for branch in space.branches}
        if not set(text) <= set(of_letter):
            raise InputError(f"a start takes the allowed branches, {''.join(of_letter)!r}; got {text!r}")
        if len(text) != space.n_letters:
            raise InputError(f"a routing pattern of this model has {space.n_letters} letters; {text!r} has {len(text)}")
        return np.array([of_letter[letter] for letter in text], dtype=np.uint8)
    if text == "spread":
        totals = np.flatnonzero(space.sizes_by_cost)
        return _spread(space, int(totals[np.abs(totals - space.most_cost / 2).argmin()]))
    return np.full(space.n_letters, space.in_order_of_cost(falling=text != "small")[0], dtype=np.uint8)


def start_in_budget(space: SearchSpace, text: str) -> np.ndarray:
    """As `named_start`, and in the budget: `small` has the least cost that it admits, `big` the most, evenly spread over the
    layers; a pattern must be in it. uint8 (L,).
    """
    start_L = named_start(space, text)
    if space.contains(start_L[None])[0]:
        return start_L
    if is_pattern(text):
        raise InputError(f"a start has the search's budget, {space.budget}; got {text!r}")
    totals = np.flatnonzero(space.sizes_by_cost)
    return _spread(space, int(totals[0] if text == "small" else totals[-1]))


def _spread(space: SearchSpace, cost: int) -> np.ndarray:
    """A pattern of the cost, as even over the layers as its branches allow."""
    start_L = named_start(space, "small")
    if space.costly is not None:
        start_L[((np.arange(cost) + 0.5) * space.n_letters / max(cost, 1)).astype(np.int64)] = space.costly
        return start_L
    left = cost
    for letter in range(space.n_letters):
        n_after = space.n_letters - letter - 1
        ways = space.ways(n_after)
        fits = [branch for branch in space.branches if branch.cost <= left and ways[left - branch.cost]]
        taken = min(fits, key=lambda branch: abs(branch.cost - left / (n_after + 1)))
        start_L[letter] = taken
        left -= taken.cost
    return start_L
