"""Ladders for a report, from the JSON that `duo-oracle ladder RUN --format json` writes. Knows no run."""

from __future__ import annotations

import os
from collections.abc import Collection

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.ladder.rungs import Line
from duo_oracle.results.ladder.table import line_of
from duo_oracle.results.report.json_rows import read_rows

_LAW = (
    "a ladder is the JSON of duo-oracle ladder RUN --format json, a list of objects with run_id, budget, name, kind, loss and gain"
)


def read_ladder(file: str | os.PathLike[str], runs: Collection[str]) -> tuple[str, list[Line]]:
    """The id of the run that the ladder is of, one of `runs`, and its lines.

    Raises InputError, one line, for what is no ladder, and for the ladder of another run.
    """
    _, rows = read_rows(file, _LAW, ("run_id", "budget", "name", "kind", "loss", "gain", "tokens", "documents"))
    of = {str(row["run_id"]) for row in rows}
    if len(of) > 1 or not of <= set(runs):
        raise InputError(f"{file} is of run {', '.join(sorted(of))}, and the report of {', '.join(sorted(runs))}")
    try:
        return of.pop(), [line_of(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise InputError(f"{_LAW}; {file}: {error}") from None
