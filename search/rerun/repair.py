"""A run made whole again: its own search, begun anew from what it says of itself, solves what is missing or damaged."""

from __future__ import annotations

from dataclasses import fields, replace

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.reader import load
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import Outcome, run_search


def repair(directory: str, model: str | None = None) -> Outcome:
    """Searches again, in this process, the units of the run in `directory` that are missing or not what the run wrote.

    `model` where it has moved since. Raises InputError for a run that does not say how it was searched, or one of an earlier
    version of the tables, and whatever the search refuses: another model, other data.
    """
    run = load(directory)
    stored = {field.name: run.config[field.name] for field in fields(SearchConfig) if field.name in run.config}
    if not {"model", "data"} <= set(stored):
        raise InputError(f"{directory} does not say what it was searched with; its own search command mends it")
    try:
        config = SearchConfig(**{**stored, "out": directory, "local": True, "address": None, "workers": None, "overwrite": False})
    except (TypeError, AttributeError) as fault:
        raise InputError(f"{directory}: the config in its manifest was edited by hand: {fault}") from None
    return run_search(config if model is None else replace(config, model=model))
