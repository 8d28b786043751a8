"""A worker that has the model already: a fork of the driver, which solves units while the other workers are still starting.

It is a process of its own, so that a unit that kills its worker costs the driver nothing. It takes one unit at a time until it is
told that the others have begun. Linux alone; it needs no GPU and no second thread, for neither comes through a fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from duo_oracle.oracle.base.remote import is_remote
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.tally import TOLD_SECONDS, counting
from duo_oracle.search.job.worker import Job, prepare_worker, solve_unit

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_NICENESS = 15  # that of Ray's workers: Ray has 30 s to start beside it
_IDLE_SECONDS = 30.0  # a worker that uses no processor for so long waits for a lock that nobody holds


def can_fork(job: Job) -> bool:
    """Whether a worker can begin so."""
    here = sys.platform == "linux" and job.device == "cpu" and job.threads == 1
    return here and not is_remote(job.directory)  # a store's client has a thread of its own, which a fork leaves behind


@dataclass(frozen=True)
class Died:
    """The worker's process ended over this unit."""

    unit: Unit


@dataclass(frozen=True)
class Broken:
    """Planning a unit raised this."""

    error: BaseException


@dataclass(frozen=True)
class Told:
    """How many positions of a unit are found by now."""

    unit: int
    positions: float


Settled = UnitRecord | UnitFailure | Died | Broken | Told


class EarlyWorker:
    """The forked process, and the thread of this one that hands it units. `settled` holds what became of them."""

    def __init__(self, job: Job, model: OracleModel) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._pipe, job, model), daemon=True)
        self._process.start()
        theirs.close()
        self._enough, self._thread = threading.Event(), threading.Thread(target=lambda: None)
        self.settled: queue.SimpleQueue[Settled] = queue.SimpleQueue()

    def begin(self, next_unit: Callable[[], Unit | None]) -> None:
        """Hand it units, which `next_unit` may be asked for in another thread, until `stop`, or until there are none."""
        self._thread = threading.Thread(target=self._feed, args=(next_unit,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give it no more units after the one that it has."""
        self._enough.set()

    @property
    def busy(self) -> bool:
        """Whether something may still be put into `settled`."""
        return self._thread.is_alive()

    def drained(self) -> Iterator[Settled]:
        """What is settled by now."""
        while True:
            try:
                yield self.settled.get_nowait()
            except queue.Empty:
                return

    def close(self) -> None:
        """End the process, whatever it does."""
        self._enough.set()
        self._process.kill()
        self._process.join()
        if self._thread.ident is not None:
            self._thread.join()
        self._pipe.close()

    def _feed(self, next_unit: Callable[[], Unit | None]) -> None:
        while not self._enough.is_set():
            try:
                unit = next_unit()
            except BaseException as error:
                self.settled.put(Broken(error))
                return
            if unit is None:
                return
            self.settled.put(self._solved(unit))
            if not self._process.is_alive():
                return

    def _solved(self, unit: Unit) -> Settled:
        try:
            self._pipe.send(unit)
            while isinstance(found := self._received(), Told):
                self.settled.put(found)
        except (OSError, EOFError):
            self._process.join()
            return Died(unit)
        return found

    def _received(self) -> Settled:
        """What the process says next. One that waits for a lock that nobody holds is ended. Raises EOFError where it is gone."""
        used, since = -1.0, time.monotonic()
        while not self._pipe.poll(1.0):
            if (now_used := _processor_seconds(self._process.pid)) != used:
                used, since = now_used, time.monotonic()
            elif time.monotonic() - since > _IDLE_SECONDS:
                self._process.kill()
        found: Settled = self._pipe.recv()
        return found


def _serve(pipe: Connection, parents: Connection, job: Job, model: OracleModel) -> None:
    """Of the forked process: units in, what became of them out."""
    parents.close()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to hear
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    prepare_worker(job.threads)
    n_budgets = len(job.problem.budgets)
    with contextlib.suppress(EOFError, OSError):
        while True:
            unit: Unit = pipe.recv()
            found = counting(unit.index, n_budgets, lambda number, positions: pipe.send(Told(number, positions)), TOLD_SECONDS)
            pipe.send(solve_unit(job, model, unit, found))
    os._exit(0)


def _processor_seconds(pid: int | None) -> float:
    """What the process has used so far; -1 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return -1.0
    return float(fields[11]) + float(fields[12])
