"""What a run was asked: the config of its search, to be run or read again in this process."""

from __future__ import annotations

from dataclasses import fields

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.config import SearchConfig


def config_of(run: StoredRun, instead: str) -> SearchConfig:
    """The config, for this process alone. Raises InputError, with what to do `instead`, for a run that does not say how it was
    searched."""
    stored = {field.name: run.config[field.name] for field in fields(SearchConfig) if field.name in run.config}
    if not {"model", "data"} <= set(stored):
        raise InputError(f"{run.place} does not say what it was searched with; {instead}")
    here = {"out": run.place, "local": True, "address": None, "workers": None, "overwrite": False}
    try:
        return SearchConfig(**{**stored, **here})
    except (TypeError, AttributeError) as fault:
        raise InputError(f"{run.place}: the config in its manifest was edited by hand: {fault}") from None
