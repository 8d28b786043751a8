"""`run_search` and `solve`: the main job, called from Python.

Light to import; the engine is loaded by the first call.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import extras_named
from duo_oracle.oracle.base.scratch import scratch_folder
from duo_oracle.results.api.run import Run, load
from duo_oracle.search.api.options import options_of, taking
from duo_oracle.search.job.config import SearchConfig

if TYPE_CHECKING:
    import pandas as pd


class SearchFailed(RuntimeError):
    """Some units of a search failed by a fault of the program or the machine. All others are kept."""


@taking(SearchConfig)
@extras_named("run_search")
def run_search(model: str | os.PathLike[str], data: Any, *, out: str | os.PathLike[str] | None = None, **options: Any) -> Run:
    """Does the job of `duo-oracle search` and returns the run, as `duo_oracle.load` does.

    `out` is the run directory; an interrupted search resumes where the same call is made again. Without it the run is in a
    temporary directory, which is removed when the Run is no longer used, and at the end of the program: keep what you want of it
    (`paths()`, `report(FILE)`), or give `out`. Work is done by Ray workers, one per core; `local=True` does it in this process.

    Raises InputError for a model, data or option that does not fit, and SearchFailed where a unit failed.
    """
    if out is None and options.get("address") is not None:
        raise InputError("workers of a cluster write into a directory that all its nodes share: give it as `out`")
    parent = None if out is not None else tempfile.mkdtemp(prefix="duo-oracle-")
    directory = os.fspath(out) if out is not None else os.path.join(str(parent), "run")
    try:
        config = options_of(SearchConfig, {"model": model, "data": data, "out": directory, **options})
        run = _searched(config)
    except BaseException:
        if parent is not None:
            shutil.rmtree(parent, ignore_errors=True)
        raise
    if parent is not None:
        weakref.finalize(run, shutil.rmtree, parent, ignore_errors=True)
    return run


def _searched(config: SearchConfig) -> Run:
    from duo_oracle.search.job.driver import run_search as search

    outcome = search(config)
    if outcome.failures:
        failed = SearchFailed(
            f"{len(outcome.failures)} of the run's units failed and all else is kept in {outcome.directory}; the same call tries "
            f"them again: {outcome.failures[0].message}"
        )
        if outcome.failures[0].traceback:
            failed.add_note(outcome.failures[0].traceback)
        raise failed
    return load(outcome.directory)


@taking(SearchConfig, "data", "out", "overwrite", "address", "workers", "local")
def solve(model: str | os.PathLike[str], text: str | Sequence[str] | Sequence[int], **options: Any) -> pd.DataFrame:
    """The oracle path of every token of a text: a row per position and budget, with the token, its target and the losses in nats.

    `text` is a text, several (one document each), or one text's token ids. The work is done in this process and leaves no file.

    >>> import duo_oracle as duo
    >>> frame = duo.solve("duo-tiny", "It is a truth universally acknowledged", budget=("any", 4), branches="sB")
    >>> bool((frame["loss"] <= frame["loss_full"] + 1e-6)[frame["budget"] == "any"].all())
    True

    Raises InputError for a model, text or option that does not fit.
    """
    fixed = sorted({"data", "out", "overwrite", "address", "workers", "local"} & set(options))
    if fixed:
        raise InputError(f"solve works on one text in this process, without files; `{fixed[0]}` is an option of run_search")
    with scratch_folder() as folder:
        file = folder / "text.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in _rows(text)), encoding="utf-8")
        run = run_search(model, str(file), out=folder / "run", local=True, **options)
        return run.tokens().merge(run.paths(), on=["sequence", "position"])


def _rows(text: str | Sequence[str] | Sequence[int]) -> list[dict[str, Any]]:
    """The text as documents."""
    if isinstance(text, str):
        return [{"document": "text", "text": text}]
    items = list(text)
    if items and all(isinstance(item, str) for item in items):
        return [{"document": f"text {number}", "text": item} for number, item in enumerate(items)]
    token_ids = [int(item) for item in items if isinstance(item, Integral) and not isinstance(item, bool)]
    if not items or len(token_ids) < len(items):
        raise InputError(f"a text is a string, several strings, or whole numbers, the tokens' ids; got {text!r:.80}")
    return [{"document": "text", "tokens": token_ids}]
