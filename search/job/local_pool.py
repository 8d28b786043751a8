"""`--local`: the units one after the other in this process, without Ray. The same contract, easy to debug."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.parcels import solve_here
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.tally import Moved, counting
from duo_oracle.search.job.worker import Job, prepared


class LocalPool:
    def __init__(self, job: Job, model: OracleModel, moved: Moved | None = None) -> None:
        self._job, self._model, self._moved = job, model, moved

    def __enter__(self) -> Self:
        self._prepared = prepared(self._job.threads)
        self._prepared.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._prepared.__exit__(None, None, None)

    def run(self, units: Iterable[Unit]) -> Iterator[UnitRecord | UnitFailure]:
        for unit in units:
            n_budgets = len(self._job.problem.budgets)
            found = None if self._moved is None else counting(unit.index, n_budgets, self._moved)
            yield solve_here(self._job, self._model, unit, found)
