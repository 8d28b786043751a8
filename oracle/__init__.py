"""The language of routing patterns, and the exact engine over any model that speaks it. Its names are loaded when asked for."""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle.oracle.base.errors import InputError
    from duo_oracle.oracle.budgets import Budget, parse_budgets
    from duo_oracle.oracle.contexts import Context, parse_context
    from duo_oracle.oracle.model import OracleModel
    from duo_oracle.oracle.patterns import Branch, RoutingPattern
    from duo_oracle.oracle.spaces import SearchSpace

__all__ = [
    "Branch",
    "Budget",
    "Context",
    "InputError",
    "OracleModel",
    "RoutingPattern",
    "SearchSpace",
    "parse_budgets",
    "parse_context",
]

__getattr__, __dir__ = face(
    __name__,
    {
        **dict.fromkeys(("Branch", "RoutingPattern"), "duo_oracle.oracle.patterns"),
        **dict.fromkeys(("Budget", "parse_budgets"), "duo_oracle.oracle.budgets"),
        **dict.fromkeys(("Context", "parse_context"), "duo_oracle.oracle.contexts"),
        "InputError": "duo_oracle.oracle.base.errors",
        "OracleModel": "duo_oracle.oracle.model",
        "SearchSpace": "duo_oracle.oracle.spaces",
    },
)
