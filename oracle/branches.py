"""Branch tables: what a token may do at a routed layer, as data. The one place that knows branches by their names.

A branch is a row of a table: its code in arrays, its letter in a pattern, what it is, what it costs. The codes 0 to 2 mean the same
in every table: skip, small and full, which is the model as it is without routing (the big FFN, or a mixture's own routing).
A table of experts has codes of its own from 3 on. Tables are written

    sB                  letters of . s B
    top:1,2,4           the 1, 2 or 4 best experts by the model's own router; the letters are base-36 digits; 0 is no routed expert
    ranks:1+2,1+3       the experts of these ranks, counted from 1, the best; letters a, b, ... in the order given
    sets:0+3,1+2        the experts of these numbers, counted from 0; letters likewise

and cost big layers, or active routed experts.

Axes: P patterns, L layers, b codes.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import ClassVar

import numpy as np

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError

LETTERS = ".sB"
_N_CODES = 256
_DIGITS = string.digits + string.ascii_lowercase
_ALPHABET = string.ascii_letters
_EXPERTS_AT_MOST = 4096


class _Rows(type):
    """Iterating over the class gives the branches that every table has: skip, small, full."""

    def __iter__(cls) -> Iterator[Branch]:
        return iter(_ALWAYS)

    def __len__(cls) -> int:
        return len(_ALWAYS)


class Branch(int, metaclass=_Rows):
    """What one token does at one layer: its code, with the letter, the name and the cost of its row in the table.

    >>> Branch.BIG, Branch.BIG.letter, Branch.BIG.cost
    (2, 'B', 1)
    >>> Branch(1) is Branch.SMALL
    True
    """

    letter: str
    cost: int
    name: str
    what: str

    SKIP: ClassVar[Branch]
    SMALL: ClassVar[Branch]
    BIG: ClassVar[Branch]

    def __new__(cls, code: int, letter: str | None = None, cost: int = 0, name: str = "", what: str = "") -> Branch:
        if letter is None and code < len(_ALWAYS):
            return _ALWAYS[code]
        self = super().__new__(cls, code)
        self.letter, self.cost, self.name, self.what = letter or "?", cost, name, what
        return self

    def __reduce__(self) -> tuple[type[Branch], tuple[object, ...]]:
        if self < len(_ALWAYS) and self is _ALWAYS[self]:
            return Branch, (int(self),)
        return Branch, (int(self), self.letter, self.cost, self.name, self.what)


_ALWAYS: list[Branch] = []
for _row in (
    (0, ".", 0, "SKIP", "no FFN"),
    (1, "s", 0, "SMALL", "the small FFN"),
    (2, "B", 1, "BIG", "the big FFN"),
):
    _ALWAYS.append(Branch(*_row))
Branch.SKIP, Branch.SMALL, Branch.BIG = _ALWAYS


class TableKind(StrEnum):
    LETTERS = "letters"  # skip, small, full
    TOP = "top"  # how many of the best experts
    RANKS = "ranks"  # which of the best
    SETS = "sets"  # which experts, by their numbers


class Gate(StrEnum):
    """How a set of experts that a branch chooses is weighed."""

    OWN = "own"  # by the router's own rule, whatever the set's weights add up to
    RENORMALISED = "renormalised"  # divided by the set's sum, so that fewer experts are no smaller a step


@dataclass(frozen=True)
class BranchTable:
    """The branches that a layer may take, in the order of ties; `spec` is how the table is written.

    >>> table = parse_table("top:1,2,4")
    >>> [(branch.letter, branch.cost) for branch in table.branches]
    [('1', 1), ('2', 2), ('4', 4)]
    >>> table.n_ranks, table.chosen(table.branches[1])
    (4, (0, 1))
    """

    kind: TableKind
    spec: str
    branches: tuple[Branch, ...]
    members: tuple[tuple[int, ...], ...] = ()
    """Of a table of experts, branch by branch: ranks counted from 0 (`top`, `ranks`), or experts (`sets`)."""
    gate: Gate = Gate.OWN

    @property
    def of_experts(self) -> bool:
        return self.kind is not TableKind.LETTERS

    @property
    def unit(self) -> str:
        """What costs are counted in."""
        return "active experts" if self.of_experts else "big layers"

    @cached_property
    def cheapest(self) -> Branch:
        """The branch of least cost, the first of them."""
        return min(self.branches, key=lambda branch: branch.cost)

    @cached_property
    def dearest(self) -> int:
        """The greatest cost of a branch."""
        return max(branch.cost for branch in self.branches)

    @property
    def n_ranks(self) -> int:
        """How many experts of a state the table asks for at most: its best so many, or so many of the listed ones."""
        if self.kind is TableKind.SETS:
            return len(self.experts)
        return max((rank + 1 for ranks in self.members for rank in ranks), default=0)

    @property
    def experts(self) -> tuple[int, ...]:
        """The experts that a table of `sets` names, ascending."""
        return tuple(sorted({expert for experts in self.members for expert in experts}))

    def chosen(self, branch: int) -> tuple[int, ...]:
        """Ranks from 0, or experts, that a branch of a table of experts runs."""
        return self.members[branch - len(_ALWAYS)]

    @cached_property
    def letters(self) -> str:
        """The letter of every code. The full model has B, or * where a set of experts is called so."""
        own = [branch.letter for branch in self.branches] if self.of_experts else []
        return "".join("*" if letter in own else letter for letter in LETTERS) + "".join(own)

    @property
    def written(self) -> str:
        """The letters that a pattern may be written with: of a table of experts its own, and the full model's."""
        return self.letters[2:] if self.of_experts else self.letters

    def of_letter(self, letter: str) -> Branch:
        """The branch that a letter stands for. Raises ValueError for a letter of no branch."""
        code = self.letters.index(letter)
        return Branch(code) if code < len(_ALWAYS) else self.branches[code - len(_ALWAYS)]

    def parse_branches(self, text: str) -> tuple[Branch, ...]:
        """The branches of a pattern as it is written. Raises ValueError for a letter of no branch."""
        return tuple(map(self.of_letter, text))


def parse_table(text: str, gate: str = Gate.OWN) -> BranchTable:
    """The table that `text` writes, whose sets are weighed as `gate` says.

    Raises InputError for another form, a branch named twice, or none, and for a gate of letters, or one that there is not."""
    table = _table(text)
    check_choice("gate", gate, Gate)
    if gate != Gate.OWN and not table.of_experts:
        raise InputError(
            f"`gate={str(gate)!r}` says how sets of experts are weighed, with branches top:, ranks: or sets: of a mixture; got "
            f"`branches={table.spec!r}`"
        )
    return replace(table, gate=Gate(gate))


def _table(text: str) -> BranchTable:
    kind, colon, listed = text.partition(":")
    if not colon and kind not in ("top", "ranks", "sets"):
        if not text or set(text) - set(LETTERS) or len(set(text)) != len(text):
            raise InputError(
                "branches are any of the letters . s B, each once; of a mixture of experts also top:1,2,4, ranks:1+2,1+3 or "
                f"sets:0+1,2+3; got {text!r}"
            )
        branches = tuple(branch for branch in _ALWAYS if branch.letter in text)
        return BranchTable(TableKind.LETTERS, "".join(branch.letter for branch in branches), branches)
    if kind == "top":
        return _top(text, listed)
    if kind in ("ranks", "sets"):
        return _listed(TableKind(kind), text, listed)
    raise InputError(f"branches are letters of . s B, top:K,K, ranks:R+R,R+R or sets:E+E,E+E; got {text!r}")


def _top(text: str, listed: str) -> BranchTable:
    parts = [part.strip() for part in listed.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,2}", part) for part in parts) or max(map(int, parts)) >= len(_DIGITS):
        raise InputError(f"branches top:K,K,... are numbers of experts from 0 to {len(_DIGITS) - 1}; got {text!r}")
    counts = sorted(map(int, parts))
    if len(set(counts)) != len(counts):
        raise InputError(f"a number of experts stands in a branch table once; got {text!r}")
    branches = tuple(
        Branch(len(_ALWAYS) + place, _DIGITS[k], k, f"TOP-{k}", f"the {k} best experts" if k else "no routed expert")
        for place, k in enumerate(counts)
    )
    return BranchTable(TableKind.TOP, f"top:{','.join(map(str, counts))}", branches, tuple(tuple(range(k)) for k in counts))


def _listed(kind: TableKind, text: str, listed: str) -> BranchTable:
    first = 1 if kind is TableKind.RANKS else 0
    what = "ranks, counted from 1, the best" if first else "experts, counted from 0"
    sets = []
    for part in listed.split(","):
        if not re.fullmatch(r"[0-9]{1,4}(\+[0-9]{1,4})*", part.strip()):
            raise InputError(f"branches {kind}:N+N,N+N,... name {what}; got {text!r}")
        members = tuple(sorted(int(number) for number in part.strip().split("+")))
        if len(set(members)) != len(members) or not first <= members[0] <= members[-1] < _EXPERTS_AT_MOST:
            raise InputError(f"branches {kind}:N+N,N+N,... name {what}, each once in a set; got {part.strip()!r} in {text!r}")
        sets.append(members)
    if len(set(sets)) != len(sets):
        raise InputError(f"a set of experts stands in a branch table once; got {text!r}")
    if len(sets) > len(_ALPHABET):
        raise InputError(f"a branch table holds at most {len(_ALPHABET)} sets of experts, one a letter; got {len(sets)}")
    written = ["+".join(map(str, members)) for members in sets]
    branches = tuple(
        Branch(len(_ALWAYS) + place, _ALPHABET[place], len(members), name, f"{'ranks' if first else 'experts'} {name}")
        for place, (members, name) in enumerate(zip(sets, written, strict=True))
    )
    return BranchTable(kind, f"{kind}:{','.join(written)}", branches, tuple(tuple(n - first for n in members) for members in sets))


DUO = parse_table(LETTERS)
"""The table of a Duo-LLM: skip, small, big."""


def code_costs(branches: Sequence[Branch]) -> np.ndarray:
    """The cost of every code, int64 (b,); those that stand outside `branches` have what a Duo-LLM's have."""
    cost_b = np.zeros(_N_CODES, dtype=np.int64)
    for branch in (*_ALWAYS, *branches):
        cost_b[branch] = branch.cost
    return cost_b


def pattern_costs(branches_PL: np.ndarray, branches: Sequence[Branch] = DUO.branches) -> np.ndarray:
    """The cost of every pattern: the sum of its branches' costs, int64 (P,)."""
    return code_costs(branches)[branches_PL].sum(axis=-1)
