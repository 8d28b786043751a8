"""Tables of strategies for a report, from the JSON that `duo-oracle strategies --format json` writes. Knows no run."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.report.json_rows import read_rows

_LAW = "strategies are the JSON of duo-oracle strategies --format json, a list of objects with strategy, budget and regret"


def read_strategies(file: str | os.PathLike[str], runs: Collection[str]) -> dict[str, Any]:
    """The file's rows, as they are, under its name.

    `runs` are the ids of the runs that the report is of. Raises InputError, one line, for what is not a list of objects that each
    name a strategy, a budget and its regret, and for a table of another run. Tables from before they named their run are taken.
    """
    name, rows = read_rows(file, _LAW, ("strategy", "budget", "regret"))
    for row in rows:
        if row.get("run_id") is not None and row["run_id"] not in runs:
            raise InputError(f"{file} is of run {row['run_id']!r}, and the report of {', '.join(sorted(runs))}")
    return {"name": name, "rows": rows}
