"""Contexts: which routing the earlier tokens of a sequence had while one token's patterns are compared.

Only the words; what each means for keys and values is in `oracle/engine/scorer.py` and `oracle/engine/walk.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import LETTERS, Branch, RoutingPattern


class ContextKind(StrEnum):
    COMMITTED = "committed"  # every earlier token ran its own chosen pattern
    SAME = "same"  # every earlier token took the candidate pattern itself
    FIXED = "fixed"  # every earlier token took one given pattern: big, small, or any other
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


def parse_context(text: str, n_layers: int) -> Context:
    """The context that `text` names: committed, same, big, small, a pattern, or router:ROUTER. Raises InputError for another."""
    if text in (ContextKind.COMMITTED, ContextKind.SAME):
        return Context(ContextKind(text))
    if text in ("big", "small"):
        return Context(ContextKind.FIXED, RoutingPattern.uniform(Branch[text.upper()], n_layers))
    kind, _, router = text.partition(":")
    if kind == ContextKind.ROUTER and router:
        return Context(ContextKind.ROUTER, router=router)
    if text and set(text) <= set(LETTERS):
        return Context(ContextKind.FIXED, RoutingPattern.parse(text, n_layers))
    raise InputError(
        f"unknown context {text!r}; available: committed, same, big, small, a pattern of {n_layers} letters . s B, or router:ROUTER"
    )
