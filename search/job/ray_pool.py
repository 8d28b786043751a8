"""Units on Ray workers, of this machine or of a cluster. The only file that knows Ray.

The weights go through the object store once, and each worker process builds its model once. A window of tasks a little
ahead of the workers keeps them busy and the driver's memory flat. A unit whose worker died is given to another; Ray's own
retries are off, so that it is said, counted, and the same for a crash, a kill and a lost node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

import duo_oracle
from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.manifest import UnitRecord
from duo_oracle.search.job.pool import Notify, Unit, UnitFailure
from duo_oracle.search.job.ray_folder import ray_folder
from duo_oracle.search.job.worker import Job, prepare_worker, solve_unit

MAX_ATTEMPTS = 3  # a unit that has cost so many workers their life is taken to be the cause
_LEAST_STORE_BYTES = 256 << 20
_CONNECT_SECONDS = 10

# How a Ray of our own is to start: on the loopback alone, with a token that is in no file, and telling nobody. Ray reads
# the first three once, when it is imported: where a program imported it before us, they are left as they were. None of it is
# set when a cluster is joined.
_AT_IMPORT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
_AT_START = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": "0"}
_imported_with: dict[str, str] = {}


@dataclass(frozen=True)
class _Weights:
    """A checkpoint as arrays, which the object store shares between processes without a copy."""

    checkpoint: Checkpoint  # without its tensors
    arrays: dict[str, np.ndarray]
    dtypes: dict[str, torch.dtype]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _Weights:
        tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
        # numpy has no bfloat16: every tensor travels as its bytes
        arrays = {name: tensor.view(torch.uint8).numpy() if tensor.ndim else tensor.numpy() for name, tensor in tensors.items()}
        return cls(_replace_tensors(checkpoint, {}), arrays, {name: tensor.dtype for name, tensor in tensors.items()})

    def restore(self) -> Checkpoint:
        with warnings.catch_warnings():  # the arrays are read-only, and nothing here writes
            warnings.simplefilter("ignore", UserWarning)
            tensors = {name: torch.from_numpy(array).view(self.dtypes[name]) for name, array in self.arrays.items()}
        return _replace_tensors(self.checkpoint, tensors)


def _replace_tensors(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor]) -> Checkpoint:
    from dataclasses import replace

    return replace(checkpoint, tensors=tensors)


_built: dict[tuple[str, ...], OracleModel] = {}  # of this worker process: the one model it was last asked for


def _model_of(job: Job, weights: _Weights) -> OracleModel:
    key = (weights.checkpoint.fingerprint, job.dtype, job.device, job.route_layers or "")
    if key not in _built:
        _built.clear()
        prepare_worker(job.threads)
        _built[key] = load_model(weights.restore(), job.dtype, job.device, job.route_layers)
    return _built[key]


def _solve(job: Job, weights: _Weights, unit: Unit) -> UnitRecord | UnitFailure:
    return solve_unit(job, _model_of(job, weights), unit)


class RayPool:
    """Workers of Ray. Without an address a Ray of this machine's own is started, and stopped at the end."""

    def __init__(self, job: Job, checkpoint: Checkpoint, workers: int | None, address: str | None, notify: Notify) -> None:
        self._job, self._address, self._notify = job, address, notify
        self._workers = workers
        self._checkpoint: Checkpoint | None = checkpoint  # until it is in the object store, which all processes of a node share
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            # Ray prints its notes about dead workers to stdout, which is for results.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            assert self._checkpoint is not None, "a pool is entered once"
            self._ray = ray = _import_ray({} if self._address else _AT_IMPORT)
            folder = stack.enter_context(ray_folder()) if self._address is None else None
            stack.callback(ray.shutdown)
            with _kept_signal_handlers():
                if folder is not None:
                    self._start(self._checkpoint, folder)
                else:
                    self._join()
            self._job_ref = ray.put(self._job)
            self._weights_ref = ray.put(_Weights.of(self._checkpoint))
            self._checkpoint = None
            gpu = {"num_gpus": 1} if self._job.device.startswith("cuda") else {}
            self._task = ray.remote(max_retries=0, num_cpus=self._job.threads, **gpu)(_solve)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self, checkpoint: Checkpoint, folder: str) -> None:
        workers = self._workers or default_workers(self._job.device, self._job.threads)
        weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in checkpoint.tensors.values())
        # Workers inherit the import path, so that they run the driver's files.
        with _environment({**_imported_with, **_AT_START, "PYTHONPATH": _import_path()}):
            self._ray.init(
                address="local",
                num_cpus=workers * self._job.threads,
                include_dashboard=False,
                _temp_dir=folder,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
                object_store_memory=max(_LEAST_STORE_BYTES, 2 * weights_bytes),
            )
        self._window = 2 * workers

    def _join(self) -> None:
        try:
            self._ray.init(address=self._address, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"no Ray cluster answers at `address={self._address}`: {error}") from None
        n_cpus = int(self._ray.cluster_resources().get("CPU", 1))
        # On a cluster that others use too, no more than the workers asked for are in flight.
        self._window = self._workers or 2 * max(n_cpus // self._job.threads, 1)

    def run(self, units: Iterable[Unit]) -> Iterator[UnitRecord | UnitFailure]:
        waiting = iter(units)
        running: dict[Any, tuple[Unit, int]] = {}
        while True:
            while len(running) < self._window and (unit := next(waiting, None)) is not None:
                running[self._submit(unit)] = (unit, 1)
            if not running:
                return
            for ref in self._ray.wait(list(running), num_returns=1)[0]:
                unit, attempt = running.pop(ref)
                outcome = self._outcome(ref, unit)
                if isinstance(outcome, UnitFailure | UnitRecord):
                    yield outcome
                elif attempt < MAX_ATTEMPTS:
                    self._notify(f"{unit}: its worker died ({type(outcome).__name__}); the unit is repeated")
                    running[self._submit(unit)] = (unit, attempt + 1)
                else:
                    yield UnitFailure(
                        unit.index, f"{unit}: {MAX_ATTEMPTS} workers died of it ({type(outcome).__name__})", str(outcome)
                    )

    def _submit(self, unit: Unit) -> Any:
        return self._task.remote(self._job_ref, self._weights_ref, unit)

    def _outcome(self, ref: Any, unit: Unit) -> UnitRecord | UnitFailure | Exception:
        """What the task returned; a UnitFailure where it could not begin; Ray's exception where its worker died."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:  # such as a model that does not fit the worker's device
            return UnitFailure(unit.index, f"{unit}: {str(error).strip().splitlines()[-1]}", str(error))
        except self._ray.exceptions.RayError as error:
            return error


def check_address(address: str) -> None:
    """Raises InputError where nothing answers at HOST:PORT: Ray itself would go on trying for a quarter of an hour."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"an address of a Ray cluster is HOST:PORT, or auto for the one on this machine; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at `address={address}`: {error}") from None


def default_workers(device: str, threads: int) -> int:
    """One worker per GPU with cuda; otherwise one per `threads` cores that this process may use."""
    if device.startswith("cuda"):
        return max(torch.cuda.device_count(), 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // threads, 1)


def _import_ray(environment: dict[str, str]) -> Any:
    if "ray" not in sys.modules:
        _imported_with.update(environment)
    with _environment(_imported_with):
        import ray
        import ray.exceptions
    return ray


def _import_path() -> str:
    root = str(Path(duo_oracle.__file__).resolve().parents[1])
    return os.pathsep.join(dict.fromkeys([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))


@contextlib.contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: a stack trace in C and exit status 15. Whoever had it before has it again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets the variables for what is started inside, and puts the old ones back."""
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
