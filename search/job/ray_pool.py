"""Units on Ray workers, of this machine or of a cluster. Ray itself is known to `ray_session.py` and `ray_worker.py` alone.

The weights go through the object store once, and each worker process builds its model once. A window of tasks a little
ahead of the workers keeps them busy and the driver's memory flat. While Ray and its workers start, a fork of the driver
(`early_worker.py`) solves units. A unit whose worker died is given to another; Ray's own retries are off, so that it is
said, counted, and the same for a crash, a kill and a lost node.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.oracle.base.cores import n_cores
from duo_oracle.oracle.base.errors import Outage
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.early_worker import Broken, Died, EarlyWorker, Told, can_fork
from duo_oracle.search.job.parcels import Parcel, deliver, lies_in
from duo_oracle.search.job.pool import Notify, Unit, UnitFailure
from duo_oracle.search.job.ray_folder import ray_folder
from duo_oracle.search.job.ray_session import ANSWER_SECONDS, NotStarted, answers, import_ray, is_client, join, start
from duo_oracle.search.job.ray_worker import ModelSource, Unusable, begin, solve
from duo_oracle.search.job.surroundings import kept_signal_handlers
from duo_oracle.search.job.tally import TOLD_SECONDS, Moved, Tally
from duo_oracle.search.job.weights import Weights
from duo_oracle.search.job.worker import Job

MAX_ATTEMPTS = 3  # a unit that has cost so many workers their life is taken to be the cause
_LOOK_SECONDS = ANSWER_SECONDS  # between looks at the cluster
_SHORT_SECONDS = 0.05  # between looks at the early worker
_GONE_SECONDS = 4.0  # without an answer: the head is gone


@dataclass(frozen=True)
class _Try:
    """A unit in flight: which attempt it is, and whether its rows travel whatever its node sees."""

    unit: Unit
    number: int = 1
    travels: bool = False


class RayPool:
    """Workers of Ray. Without an address a Ray of this machine's own is started, and stopped at the end."""

    def __init__(
        self,
        job: Job,
        checkpoint: Checkpoint,
        workers: int | None,
        address: str | None,
        notify: Notify,
        moved: Moved | None = None,
        model: OracleModel | None = None,
        directory: str | None = None,
    ) -> None:
        """`directory` is where the checkpoint was read from: workers of a cluster that see it there read it themselves."""
        self._job, self._address, self._notify, self._moved = job, address, notify, moved
        self._tally: Any = None  # an actor that workers tell how far they are, where somebody looks on
        self._asked: Any = None  # what it was last asked
        self._workers, self._directory = workers, directory
        self._checkpoint: Checkpoint | None = checkpoint  # until it is in the object store, which all processes of a node share
        self._model = model if address is None and can_fork(job) else None  # what an early worker begins with
        self._early: EarlyWorker | None = None
        self._starting: list[Any] = []  # what says that a worker has its model
        self._lock = threading.Lock()  # of the units that are waiting
        self._cleanup = contextlib.ExitStack()
        self._unusable: set[str] = set()  # ids of nodes on which no unit can begin
        self._apart: set[str] = set()  # names of nodes that do not see the run's directory

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if self._model is not None:  # forked before Ray has threads here
                self._early, self._model = EarlyWorker(self._job, self._model), None
                stack.callback(self._early.close)
                self._cleanup = stack.pop_all()
            else:
                self._enter_ray(stack)
                self._cleanup = stack.pop_all()
        return self

    def _enter_ray(self, stack: contextlib.ExitStack) -> None:
        # Ray prints its notes about dead workers to stdout, which is for results.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        assert self._checkpoint is not None, "a pool is entered once"
        self._ray = ray = import_ray(own=self._address is None)
        folder = stack.enter_context(ray_folder()) if self._address is None else None
        stack.callback(ray.shutdown)
        with kept_signal_handlers():
            if self._address is not None:
                join(ray, self._address)
            elif folder is not None:
                cpus = self._n_workers * self._job.threads
                weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in self._checkpoint.tensors.values())
                start(ray, folder, cpus, weights_bytes, self._notify)
        self._job_ref = ray.put(self._job)
        # On this machine the store is the shorter way: all workers share its memory, and nothing is read again.
        directory = None if self._address is None else self._directory
        weights = ray.put(Weights.of(self._checkpoint))
        self._model_ref = ray.put(ModelSource(directory, self._checkpoint.fingerprint, (weights,)))
        self._checkpoint = None
        self._task = ray.remote(**task_options(self._job))(solve)
        if self._moved is not None:
            self._tally = ray.remote(num_cpus=0, max_restarts=0)(Tally).remote()
        self._head = str(self._address if is_client(self._address or "") else ray.get_runtime_context().gcs_address)

    @property
    def _n_workers(self) -> int:
        """Of a Ray of our own."""
        return self._workers or default_workers(self._job.device, self._job.threads)

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _window(self) -> int:
        """How many units may be in flight: a little ahead of the workers that there are now, for nodes come and go.

        On a cluster that others use too, no more than the workers asked for.
        """
        if self._address is not None and self._workers:
            return self._workers
        kind, share = ("GPU", 1) if self._job.device.startswith("cuda") else ("CPU", self._job.threads)
        return 2 * max(int(self._ray.cluster_resources().get(kind, 1)) // share, 1)

    def run(self, units: Iterable[Unit]) -> Iterator[UnitRecord | UnitFailure]:
        waiting = iter(units)

        def next_unit() -> Unit | None:
            with self._lock:
                return next(waiting, None)

        running: dict[Any, _Try] = {}
        if self._early is not None:
            self._early.begin(next_unit)
            try:
                self._enter_ray(self._cleanup)
            except NotStarted as error:
                yield from self._without_ray(next_unit, error)
                return
            task = self._ray.remote(**task_options(self._job))(begin)
            self._starting = [task.remote(self._job_ref, self._model_ref) for _ in range(self._n_workers)]
        window, looked, seen = self._window(), time.monotonic(), time.monotonic()
        while True:
            for early in self._from_early():
                if isinstance(early, _Try):
                    self._submit(running, early)
                else:
                    yield early
            while len(running) < window and (unit := next_unit()) is not None:
                self._submit(running, _Try(unit))
            if not running and self._early is None:
                return
            if not running:
                time.sleep(_SHORT_SECONDS)
                continue
            for ref in self._ray.wait(list(running), num_returns=1, timeout=self._look_seconds)[0]:
                settled = self._settled(ref, running.pop(ref))
                if isinstance(settled, _Try):
                    self._submit(running, settled)
                else:
                    yield settled
            self._ask_tally(running)
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                looked = now
                if answers(self._head):
                    seen, window = now, self._window()
                elif now - seen >= _GONE_SECONDS:
                    raise Outage(
                        f"the Ray cluster is gone: its head at {self._head} has not answered for {now - seen:.0f} seconds; all "
                        f"finished units are kept in {self._job.directory}, and the same command goes on from them, on another "
                        f"cluster (`address`) or on this machine"
                    )

    @property
    def _look_seconds(self) -> float:
        return _LOOK_SECONDS if self._tally is None else min(_LOOK_SECONDS, TOLD_SECONDS)

    def _ask_tally(self, running: dict[Any, _Try]) -> None:
        """Passes on what workers have told since. Never waits, and does without where the tally is gone."""
        if self._tally is None or self._moved is None:
            return
        try:
            if self._asked is not None and self._ray.wait([self._asked], timeout=0)[0]:
                in_flight = {attempt.unit.index for attempt in running.values()}
                for unit, positions in self._ray.get(self._asked).items():
                    if unit in in_flight:
                        self._moved(unit, positions)
                self._asked = None
            if self._asked is None:
                self._asked = self._tally.take.remote()
        except self._ray.exceptions.RayError:
            self._tally = self._asked = None

    def _from_early(self) -> Iterator[UnitRecord | UnitFailure | _Try]:
        """What became of the early worker's units. It gets no more once every other worker has the model."""
        early = self._early
        if early is None:
            return
        if self._starting:
            self._starting = self._ray.wait(self._starting, num_returns=len(self._starting), timeout=0)[1]
            if not self._starting:
                early.stop()
        over = not early.busy  # asked before what it leaves behind is taken
        for found in early.drained():
            if isinstance(found, Broken):
                raise found.error
            if isinstance(found, Told):
                if self._moved is not None:
                    self._moved(found.unit, found.positions)
                continue
            yield self._after_death(_Try(found.unit), "killed", "") if isinstance(found, Died) else found
        if over:
            early.close()
            self._early = None

    def _without_ray(self, next_unit: Callable[[], Unit | None], error: NotStarted) -> Iterator[UnitRecord | UnitFailure]:
        """What becomes of all units by the early worker alone. Raises the outage where that one dies."""
        self._notify(f"{error.fault}; one worker goes on without it")
        while self._early is not None:
            for found in self._from_early():
                yield UnitFailure(found.unit.index, f"{found.unit}: its worker died", "") if isinstance(found, _Try) else found
            time.sleep(_SHORT_SECONDS)
        if next_unit() is not None:
            raise error

    def _submit(self, running: dict[Any, _Try], attempt: _Try) -> None:
        task = self._task
        if self._unusable:
            task = task.options(label_selector={"ray.io/node-id": f"!in({','.join(sorted(self._unusable))})"})
        tally = () if self._tally is None else (self._tally,)
        running[task.remote(self._job_ref, self._model_ref, attempt.unit, attempt.travels, *tally)] = attempt

    def _settled(self, ref: Any, attempt: _Try) -> UnitRecord | UnitFailure | _Try:
        """What became of the unit, its parts in the run's directory; or how to try it again."""
        unit = attempt.unit
        try:
            node, outcome = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:  # such as a node without this package
            return UnitFailure(unit.index, f"{unit}: {str(error).strip().splitlines()[-1]}", str(error))
        except self._ray.exceptions.RayError as error:
            return self._after_death(attempt, type(error).__name__, str(error))
        if isinstance(outcome, Unusable):
            self._leave_out(node, outcome)
            return attempt
        if isinstance(outcome, Parcel):
            self._say_apart(node)
            return deliver(outcome, self._job.directory)
        if isinstance(outcome, UnitRecord) and not lies_in(outcome, self._job.directory):
            self._say_apart(node)
            return replace(attempt, travels=True)
        return outcome

    def _after_death(self, attempt: _Try, how: str, trace: str) -> UnitFailure | _Try:
        """A unit whose worker died: another try, or what became of it."""
        unit = attempt.unit
        if attempt.number < MAX_ATTEMPTS:
            self._notify(f"{unit}: its worker died ({how}); the unit is repeated")
            return replace(attempt, number=attempt.number + 1)
        return UnitFailure(unit.index, f"{unit}: {MAX_ATTEMPTS} workers died of it ({how})", trace)

    def _say_apart(self, node: str) -> None:
        if node not in self._apart:
            self._apart.add(node)
            self._notify(f"node {node} does not see {self._job.directory}: its rows travel through Ray and are written from here")

    def _leave_out(self, node: str, found: Unusable) -> None:
        """Gives no more units to the node. Raises Outage where no other is left."""
        if found.node not in self._unusable:
            self._unusable.add(found.node)
            self._notify(f"node {node} cannot be used, and gets no more units: {found.reason}")
        if not {node["NodeID"] for node in self._ray.nodes() if node["Alive"]} - self._unusable:
            raise Outage(f"no node can be used; the last one said: {found.reason}")


def task_options(job: Job) -> dict[str, Any]:
    """How Ray runs a unit. Without max_calls it would start a new process, and load the model again, for each task with a GPU."""
    gpu = {"num_gpus": 1} if job.device.startswith("cuda") else {}
    return {"max_retries": 0, "max_calls": 0, "num_cpus": job.threads, **gpu}


def default_workers(device: str, threads: int) -> int:
    """One worker per GPU with cuda; otherwise one per `threads` cores that this process may use."""
    if device.startswith("cuda"):
        return max(torch.cuda.device_count(), 1)
    return max(n_cores() // threads, 1)
