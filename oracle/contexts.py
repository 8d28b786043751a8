"""Contexts: which routing the earlier tokens of a sequence had while one token's patterns are compared.

Only the words; what each means for keys and values is in `oracle/engine/scorer.py` and `oracle/engine/walk.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from duo_oracle.oracle.base.choices import meant
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import DUO, Branch, BranchTable
from duo_oracle.oracle.patterns import RoutingPattern


class ContextKind(StrEnum):
    COMMITTED = "committed"  # every earlier token ran its own chosen pattern
    SAME = "same"  # every earlier token took the candidate pattern itself
    FIXED = "fixed"  # every earlier token took one given pattern: full, cheapest, or any other
    ROUTER = "router"  # every earlier token took what a router chose for it


class SkipReading(StrEnum):
    FFN = "ffn"  # attention runs, the FFN adds nothing
    LAYER = "layer"  # the residual stream passes unchanged; keys and values are still written


@dataclass(frozen=True)
class Context:
    """A context; `pattern` is given exactly where the kind is fixed, `router` (its name) where the kind is router."""

    kind: ContextKind
    pattern: RoutingPattern | None = None
    router: str | None = None

    @property
    def independent(self) -> bool:
        """Whether one token's best pattern depends on no other token's choice, so that one pass serves all budgets."""
        return self.kind is not ContextKind.COMMITTED


_ALIASES = {"big": "full", "small": "cheapest"}


def stored_context(text: str) -> str:
    """The spelling of a context that a run stores: `full` for `big`, `cheapest` for `small`, any other as it is."""
    return _ALIASES.get(text, text)


def parse_context(text: str, n_letters: int, cheapest: Branch = Branch.SMALL, table: BranchTable = DUO) -> Context:
    """The context that `text` names: committed, same, full, cheapest, a pattern, or router:ROUTER. Raises InputError for another.

    `cheapest` is the branch of the model's cheapest pattern. `big` and `small` are taken too, for all-big and all-small.
    """
    if text in (ContextKind.COMMITTED, ContextKind.SAME):
        return Context(ContextKind(text))
    uniform = {"full": Branch.BIG, "big": Branch.BIG, "cheapest": cheapest, "small": cheapest if table.of_experts else Branch.SMALL}
    if text in uniform:
        return Context(ContextKind.FIXED, RoutingPattern.uniform(uniform[text], n_letters))
    kind, _, router = text.partition(":")
    if kind == ContextKind.ROUTER and router:
        return Context(ContextKind.ROUTER, router=router)
    if text and set(text) <= set(table.written):
        return Context(ContextKind.FIXED, RoutingPattern.parse(text, n_letters, table))
    guess = f" {meant(text, ('committed', 'same', 'full', 'cheapest'))}".rstrip()
    letters = " ".join(table.written)
    raise InputError(
        f"unknown context {text!r};{guess} available: committed, same, full, cheapest, a pattern of {n_letters} letters {letters}, "
        "or router:ROUTER"
    )
