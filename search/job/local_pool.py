"""`--local`: the units one after the other in this process, without Ray. The same contract, easy to debug."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

import torch

from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.manifest import UnitRecord
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.worker import Job, prepare_worker, solve_unit


class LocalPool:
    def __init__(self, job: Job, model: OracleModel) -> None:
        self._job, self._model = job, model

    def __enter__(self) -> Self:
        self._threads_before = torch.get_num_threads()
        prepare_worker(self._job.threads)
        return self

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads_before)

    def run(self, units: Iterable[Unit]) -> Iterator[UnitRecord | UnitFailure]:
        for unit in units:
            yield solve_unit(self._job, self._model, unit)
