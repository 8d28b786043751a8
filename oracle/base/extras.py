"""Packages that are not always there, and the line that says how to get them.

A plain install reads runs; what runs a model comes with the extra `search`, and rarer things with others (pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from duo_oracle.oracle.base.errors import InputError

EXTRA_OF = {
    **dict.fromkeys(("torch", "safetensors", "tokenizers", "ray", "optuna"), "search"),
    **dict.fromkeys(("fsspec", "s3fs"), "s3"),
    "transformers": "hf",
    "gguf": "gguf",
    "lm_eval": "lm-eval",
    "wandb": "tracking",
    **dict.fromkeys(("scipy", "cmaes"), "samplers"),
}
"""Which extra of duo-oracle brings an optional package."""


@contextmanager
def extras_named(what: str) -> Iterator[None]:
    """Turns an optional package that cannot be imported in the block into an InputError that names its extra.

    `what` is what needs it, such as `duo-oracle search`. Also a decorator.

    >>> with extras_named("search"):
    ...     raise ModuleNotFoundError("No module named 'ray'", name="ray")
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: search needs ray: pip install 'duo-oracle[search]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        raise InputError(f"{what} needs {package}: pip install 'duo-oracle[{EXTRA_OF[package]}]'") from None
