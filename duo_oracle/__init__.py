"""duo-oracle: the best routing pattern per token of a model whose layers offer a choice.

    import duo_oracle as duo

    run = duo.load("runs/first")
    run.summary(), run.difficulty(), run.plot_curve(), run.tokens_html(0)

Each name is imported when it is first asked for: `import duo_oracle` loads neither torch nor Ray nor DuckDB.
"""

from typing import TYPE_CHECKING

from duo_oracle.oracle.base.faces import face

if TYPE_CHECKING:
    from duo_oracle import models, oracle, results, search
    from duo_oracle.oracle.base.errors import InputError
    from duo_oracle.oracle.base.version import __version__
    from duo_oracle.results.api.run import Run, load, query

__all__ = [
    "InputError",
    "Run",
    "__version__",
    "load",
    "models",
    "oracle",
    "query",
    "results",
    "search",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "InputError": "duo_oracle.oracle.base.errors",
        "__version__": "duo_oracle.oracle.base.version",
        **dict.fromkeys(("Run", "load", "query"), "duo_oracle.results.api.run"),
        **dict.fromkeys(("models", "oracle", "results", "search"), ""),
    },
)
