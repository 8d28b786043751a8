"""The door of results: a run, opened, and what is asked of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from duo_oracle.results.store import reader

if TYPE_CHECKING:
    import pandas as pd


class Run(reader.StoredRun):
    """One run directory. `tokens()`, `paths()`, `losses()`, `trials()` give pandas; `dataset(table)` reads lazily."""

    def sql(self, text: str) -> pd.DataFrame:
        """The answer to one SELECT, or to a named question, about this run. See `results.sql.query`."""
        from duo_oracle.results.sql import query

        return query([self], text).to_pandas()


def load(path: str | os.PathLike[str]) -> Run:
    """The run in directory `path`. Raises InputError where there is none, or one of a later version of the tables."""
    stored = reader.load(path)
    return Run(stored.path, stored.manifest)
