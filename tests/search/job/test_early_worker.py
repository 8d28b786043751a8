"""The worker that solves while the others start: what it settles, how it ends, and that it costs the driver nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.text.windows import Window
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job import early_worker
from duo_oracle.search.job.early_worker import Broken, Died, EarlyWorker, can_fork
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.worker import Job, Solve
from tests.search.job.test_ray_window import record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def units(number: int) -> list[Unit]:
    return [Unit(n, (Window(n, f"book {n}", np.zeros(3, dtype=np.int32), 0),)) for n in range(number)]


@pytest.fixture
def begins(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An early worker whose solving of a unit is a function of it."""
    made: list[EarlyWorker] = []

    def begin(solves: Any, of: list[Unit] | None = None) -> EarlyWorker:
        monkeypatch.setattr(early_worker, "solve_unit", lambda job, model, unit, found: solves(unit))
        waiting = iter(units(3) if of is None else of)
        job = Job(str(tmp_path), "id", SimpleNamespace(budgets=[0]), None, "float32", "cpu", None, 1, None)  # type: ignore[arg-type]
        worker = EarlyWorker(job, load_model(read_checkpoint(str(toy))))
        made.append(worker)
        worker.begin(lambda: next(waiting, None))
        return worker

    yield begin
    for worker in made:
        worker.close()


def all_of(worker: EarlyWorker) -> list[Any]:
    for _ in range(400):
        if not worker.busy:
            return list(worker.drained())
        time.sleep(0.025)
    raise AssertionError("the worker does not come to an end")


def test_it_leaves_the_processor_to_ray_that_starts(begins: Any) -> None:
    found = all_of(begins(lambda unit: UnitFailure(unit.index, str(os.nice(0)))))
    assert {failure.message for failure in found} == {str(min(19, os.nice(0) + 15))}


def test_every_unit_is_settled_in_another_process(begins: Any) -> None:
    found = all_of(begins(lambda unit: UnitFailure(unit.index, str(os.getpid()))))
    assert [failure.unit for failure in found] == [0, 1, 2]
    assert {failure.message for failure in found}.isdisjoint({str(os.getpid())})


def test_a_unit_that_kills_the_process_is_given_back(begins: Any) -> None:
    def dies(unit: Unit) -> UnitRecord:
        if unit.index == 1:
            os._exit(1)
        return record(unit)

    found = all_of(begins(dies))
    assert [type(each) for each in found] == [UnitRecord, Died]
    assert found[1].unit.index == 1


def test_it_stops_after_the_unit_that_it_has(begins: Any) -> None:
    worker = begins(lambda unit: time.sleep(0.2) or record(unit), units(50))
    time.sleep(0.1)
    worker.stop()
    assert 1 <= len(all_of(worker)) <= 3


def test_a_process_that_waits_for_a_lock_that_nobody_holds_is_ended(begins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_worker, "_IDLE_SECONDS", 1.0)
    held = threading.Lock()
    held.acquire()
    found = all_of(begins(lambda unit: held.acquire()))
    assert [type(each) for each in found] == [Died]


def test_what_planning_raises_reaches_the_driver(toy: Path, tmp_path: Path) -> None:
    job = Job(str(tmp_path), "id", SimpleNamespace(budgets=[0]), None, "float32", "cpu", None, 1, None)  # type: ignore[arg-type]
    worker = EarlyWorker(job, load_model(read_checkpoint(str(toy))))
    try:
        worker.begin(lambda: 1 // 0)  # type: ignore[return-value]
        (found,) = all_of(worker)
        assert isinstance(found, Broken)
        assert isinstance(found.error, ZeroDivisionError)
    finally:
        worker.close()


def test_no_process_is_left(begins: Any) -> None:
    worker = begins(lambda unit: time.sleep(60))
    worker.close()
    assert not worker._process.is_alive()


@pytest.mark.parametrize(("device", "threads", "can"), [("cpu", 1, True), ("cpu", 2, False), ("cuda", 1, False)])
def test_where_it_can_be_had(device: str, threads: int, can: bool) -> None:
    solve: Solve = lambda *_: None  # noqa: E731
    assert can_fork(Job("d", "id", None, solve, "float32", device, None, threads, None)) is can  # type: ignore[arg-type]
