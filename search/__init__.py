"""The main job, and what is done with its runs: comparisons, studies, benchmarks. Its names are loaded when asked for."""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle.search.api.comparing import Comparison, compare
    from duo_oracle.search.api.routing import route
    from duo_oracle.search.api.searching import SearchFailed, run_search, solve
    from duo_oracle.search.job.config import SearchConfig
    from duo_oracle.search.strategy import Strategy

__all__ = ["Comparison", "SearchConfig", "SearchFailed", "Strategy", "compare", "route", "run_search", "solve"]

__getattr__, __dir__ = face(
    __name__,
    {
        **dict.fromkeys(("Comparison", "compare"), "duo_oracle.search.api.comparing"),
        "route": "duo_oracle.search.api.routing",
        **dict.fromkeys(("SearchFailed", "run_search", "solve"), "duo_oracle.search.api.searching"),
        "SearchConfig": "duo_oracle.search.job.config",
        "Strategy": "duo_oracle.search.strategy",
    },
)
