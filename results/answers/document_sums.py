"""Sums and counts of measures over every budget's tokens, document by document: what means and their intervals are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from duo_oracle.results.sql import connect
from duo_oracle.results.store.reader import StoredRun


def sums_by_document(run: StoredRun, measures: Iterable[str]) -> dict[str, Sequence[Sequence[float]]]:
    """Of each budget a row per document: sum and count of each of the SQL expressions `measures`, in turn, nulls left out."""
    asked = ", ".join(f"coalesce(sum(({what})::DOUBLE), 0), count({what})" for what in measures)
    connection = connect([run])
    try:
        rows = connection.execute(
            f"SELECT budget, document, {asked} FROM oracle GROUP BY budget, document ORDER BY document"
        ).fetchall()
    finally:
        connection.close()
    return {budget: [row[2:] for row in rows if row[0] == budget] for budget in run.budgets}
