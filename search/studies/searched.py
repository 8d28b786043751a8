"""A search that a study needs whole: run, or gone on with, and refused where units of it failed."""

from __future__ import annotations

from pathlib import Path

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search


def searched(config: SearchConfig) -> Path:
    """The run's directory. Raises InputError as a search does, and where units failed; searched again, those are tried again."""
    outcome = run_search(config)
    if outcome.failures:
        raise InputError(f"{outcome.directory}: {outcome.failures[0].message}; the same command tries it again")
    return Path(outcome.directory)
