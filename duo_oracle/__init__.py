"""duo-oracle: the best routing pattern per token of a model whose layers offer a choice.

    import duo_oracle as duo

    run = duo.run_search("duo-tiny", "holdout:prose", max_sequences=4, out="runs/first")
    run.summary(), run.difficulty(), run.plot_curve(), run.tokens_html(0)

Each name is imported when it is first asked for: `import duo_oracle` loads neither torch nor Ray nor DuckDB.
"""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle import models, oracle, results, search
    from duo_oracle.models.api.model import Model, open_model
    from duo_oracle.oracle.base.errors import InputError
    from duo_oracle.oracle.base.version import __version__
    from duo_oracle.results.api.run import Run, load, query
    from duo_oracle.search.api.comparing import compare
    from duo_oracle.search.api.laddering import ladder
    from duo_oracle.search.api.routing import route
    from duo_oracle.search.api.searching import run_search, solve

__all__ = [
    "InputError",
    "Model",
    "Run",
    "__version__",
    "compare",
    "ladder",
    "load",
    "models",
    "open_model",
    "oracle",
    "query",
    "results",
    "route",
    "run_search",
    "search",
    "solve",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "InputError": "duo_oracle.oracle.base.errors",
        "__version__": "duo_oracle.oracle.base.version",
        **dict.fromkeys(("Model", "open_model"), "duo_oracle.models.api.model"),
        **dict.fromkeys(("Run", "load", "query"), "duo_oracle.results.api.run"),
        **dict.fromkeys(("run_search", "solve"), "duo_oracle.search.api.searching"),
        "compare": "duo_oracle.search.api.comparing",
        "ladder": "duo_oracle.search.api.laddering",
        "route": "duo_oracle.search.api.routing",
        **dict.fromkeys(("models", "oracle", "results", "search"), ""),
    },
)
