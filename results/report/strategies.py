"""Tables of strategies for a report, from the JSON that `duo-oracle strategies --format json` writes. Knows no run."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.remote import readable


def read_strategies(file: str | os.PathLike[str], runs: Collection[str]) -> dict[str, Any]:
    """The file's rows, as they are, under its name.

    `runs` are the ids of the runs that the report is of. Raises InputError, one line, for what is not a list of objects that each
    name a strategy, a budget and its regret, and for a table of another run. Tables from before they named their run are taken.
    """
    path = readable(file)
    law = "strategies are the JSON of duo-oracle strategies --format json, a list of objects with strategy, budget and regret"
    try:
        rows = parsed_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{law}; {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{law}; {path} is not JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{law}; {path} holds {'an empty list' if rows == [] else 'a ' + type(rows).__name__}")
    for number, row in enumerate(rows):
        missing = [key for key in ("strategy", "budget", "regret") if not isinstance(row, dict) or row.get(key) is None]
        if missing:
            raise InputError(f"{law}; {path} row {number} lacks {missing[0]}")
        wrong = [key for key, value in row.items() if not isinstance(value, str | int | float | None)]
        if wrong:
            raise InputError(f"{law}; {path} row {number}: {wrong[0]} is neither a text nor a number")
        if row.get("run_id") is not None and row["run_id"] not in runs:
            raise InputError(f"{path} is of run {row['run_id']!r}, and the report of {', '.join(sorted(runs))}")
    return {"name": path.stem, "rows": rows}
