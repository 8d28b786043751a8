"""A run made whole again: its own search, begun anew from what it says of itself, solves what is missing or damaged."""

from __future__ import annotations

from dataclasses import replace

from duo_oracle.results.store.reader import load
from duo_oracle.search.job.driver import Outcome, run_search
from duo_oracle.search.rerun.asked import config_of


def repair(directory: str, model: str | None = None) -> Outcome:
    """Searches again, in this process, the units of the run in `directory` that are missing or not what the run wrote.

    `model` where it has moved since. Raises InputError for a run that does not say how it was searched, or one of an earlier
    version of the tables, and whatever the search refuses: another model, other data.
    """
    config = config_of(load(directory), "its own search command mends it")
    return run_search(config if model is None else replace(config, model=model))
