"""Names of a table's columns, as files from anywhere have them: two may be the same, and no reader knows which is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from duo_oracle.oracle.base.errors import InputError


def refuse_doubled(names: Sequence[str], read: Collection[str], what: str) -> None:
    """Raises InputError where two columns have one of the names that are read; `what` names the file.

    >>> refuse_doubled(["text", "more", "more"], ["text"], "a.parquet")
    """
    counts = Counter(names)
    for name in read:
        if counts[name] > 1:
            raise InputError(f"{what}: every column has a name of its own; {counts[name]} are called {name!r}")
