"""The main job: from a config to a finished run directory.

Reads the model and the data, plans units, hands them to a pool, and keeps the manifest. Holds a few units at a time, never
all sequences. Knows neither Ray nor how a unit is solved.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import load_model, load_module
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, read_router
from duo_oracle.models.routing import check_router
from duo_oracle.models.text.options import shown
from duo_oracle.models.text.windows import Window, data_fingerprint
from duo_oracle.oracle.base.allocator import return_freed_memory
from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel, cheapest_branch, check_skip, check_small
from duo_oracle.results.statistics.means import run_means
from duo_oracle.results.store.manifest import damaged_journal
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.results.store.texts import vocabulary_texts
from duo_oracle.results.store.writer import RunWriter
from duo_oracle.search.job.all_full import fitted_temperatures
from duo_oracle.search.job.config import SearchConfig, parse_temperature
from duo_oracle.search.job.config_file import write_config
from duo_oracle.search.job.identity import identity_of
from duo_oracle.search.job.local_pool import LocalPool
from duo_oracle.search.job.pool import Notify, Pool, Unit, UnitFailure, plan_units
from duo_oracle.search.job.ray_pool import RayPool, check_address
from duo_oracle.search.job.reference import open_reference, with_references
from duo_oracle.search.job.routed import context_name, routed
from duo_oracle.search.job.text import text_of
from duo_oracle.search.job.unit import check_strategy, solve_sequences
from duo_oracle.search.job.worker import Job, Solve, prepared

VERSIONED = ("torch", "numpy", "ray", "pyarrow", "optuna", "duo-oracle")


@dataclass(frozen=True)
class Outcome:
    """What became of a run: where it lies, how many units this session solved, and what failed."""

    directory: Path
    solved: int
    failures: tuple[UnitFailure, ...]


def run_search(config: SearchConfig, *, notify: Notify | None = None, solve: Solve = solve_sequences) -> Outcome:
    """Does the job of `duo-oracle search`, or goes on with it where `config.out` holds a part of it already.

    Raises InputError for a model, data or run directory that does not fit. A unit that fails costs no other: it is in the
    outcome, in run.json, and tried again by the next call. Progress is shown on a terminal and in a notebook; `notify`
    takes what is said of failures and dead workers (default: a line on stderr). Raises Outage where the disk takes no more: the
    run is kept as it is, and goes on once there is room.
    """
    _check_device(config)
    if config.address is not None:
        check_address(config.address)
    checkpoint = read_checkpoint(config.model)
    # On a cluster the GPUs may be the workers' alone; the driver needs only the sizes, and to know that the weights fit.
    checks: list[str] = []
    model = load_model(checkpoint, config.dtype, config.device if config.local else "cpu", config.route_layers, checks.append)
    asked_units = config.unit_sequences
    text = text_of(config, checkpoint, model)
    front, read = text.front, text.read
    config = config.resolved(model.n_letters, text.seq_len)
    problem = config.problem(model.n_letters, cheapest_branch(model))
    check_strategy(problem)
    check_small(problem.used_branches, model.routed_layers, model.small_layers)
    check_skip(problem.skip, model)
    sequences: Callable[[], Iterable[Window]] = read
    context = None
    if problem.context.router is not None:
        router, module = read_router(problem.context.router), load_module(checkpoint, config.route_layers)
        check_router(router, model, problem.skip, checkpoint.fingerprint)
        context = context_name(problem.context.router)
        sequences = partial(_routed, router, module, read, problem.skip, checkpoint.fingerprint)
    references = open_reference(config, checkpoint, model, len(front))
    fingerprint, n_positions = _surveyed(read(notify=notify or _say))
    if parse_temperature(config.null_temperature) is None:
        problem = replace(problem, null_temperatures=fitted_temperatures(model, read()))
    identity = identity_of(
        config,
        model.n_letters,
        routed_layers=model.routed_layers if model.n_letters < model.depth else None,
        cheapest=cheapest_branch(model),
        context=context,
        front=front,
        fingerprints={"model_fingerprint": checkpoint.fingerprint, "data_fingerprint": fingerprint},
        null_temperatures=problem.null_temperatures,
        reference=None if references is None else references.identity,
    )
    texts = vocabulary_texts(checkpoint.tokenizer_json)
    facts = {**_facts(config, model.depth, checks), "positions": n_positions}
    with RunWriter.open(config.out, identity, facts, config.overwrite, n_positions) as run:
        if run.manifest.state == "complete":
            return Outcome(run.directory, 0, ())
        write_config(run.directory, replace(config, unit_sequences=run.manifest.unit_sequences))
        job = Job(
            directory=str(Path(config.out).resolve()),
            run_id=run.run_id,
            problem=problem,
            solve=solve,
            dtype=config.dtype,
            device=config.device,
            route_layers=config.route_layers,
            threads=config.threads,
            texts=None if texts is None else tuple(texts),
        )
        finished = run.finished_units
        planned = plan_units(sequences(), run.manifest.unit_sequences)
        units: Iterable[Unit] = (unit for unit in planned if unit.index not in finished)
        if references is not None:
            units = with_references(planned, finished, references)
        done = run.manifest.positions
        with _Progress(n_positions, done, notify) as progress:
            if asked_units not in (None, run.manifest.unit_sequences):
                progress.say(f"the run was begun in units of {run.manifest.unit_sequences} sequences and keeps them")
            if run.manifest.damaged_lines:
                progress.say(f"{damaged_journal(run.manifest)}; what they were of is searched again")
            if run.broken_units:
                progress.say(f"parts of {len(run.broken_units)} units are not what the run wrote; the units are searched again")
            for line in checks:
                progress.say(f"{config.model}: {line}")
            solved, failures = 0, []
            if done != n_positions:
                entered = _pool(config, job, checkpoint, model, progress.say)
                del checkpoint, model  # the pool has what it needs; with Ray the driver then holds no weights
                with prepared(config.threads), entered as pool:  # the reference is asked in this process
                    return_freed_memory()
                    for outcome in pool.run(units):
                        if isinstance(outcome, UnitFailure) and outcome.disk is not None:
                            raise Outage(f"{outcome.disk}, in {config.out}; what is done is kept, and the same command resumes")
                        if isinstance(outcome, UnitFailure):
                            failures.append(outcome)
                            run.add_failure(outcome.unit, outcome.message)
                            progress.say(f"failed: {outcome.message}")
                        else:
                            solved += 1
                            run.add_unit(outcome)
                            progress.add(outcome)
            means = None if failures else run_means(StoredRun(run.directory, run.manifest))
            run.finish({"local": config.local, "tokens_per_second": progress.rate}, means)
        return Outcome(run.directory, solved, tuple(failures))


def _pool(config: SearchConfig, job: Job, checkpoint: Checkpoint, model: OracleModel, notify: Notify) -> Pool:
    if config.local:
        return LocalPool(job, model)
    return RayPool(job, checkpoint, config.workers, config.address, notify)


def _routed(
    router: Router, module: RoutableModule, read: Callable[[], Iterable[Window]], skip: SkipReading, fingerprint: str
) -> Iterable[Window]:
    return routed(router, module, read(), skip, fingerprint)


def _surveyed(sequences: Iterable[Window]) -> tuple[str, int]:
    """The data's fingerprint and how many positions are scored, in one reading that holds one sequence at a time.

    It meets every error of the data before any work is done.
    """
    n_positions = 0

    def counted() -> Iterator[Window]:
        nonlocal n_positions
        for sequence in sequences:
            n_positions += sequence.n_positions
            yield sequence

    return data_fingerprint(counted()), n_positions


def _check_device(config: SearchConfig) -> None:
    if config.device == "cpu" or config.address is not None:
        return
    if not config.local and config.device != "cuda":
        raise InputError(f"Ray gives each worker a GPU of its own: with workers, `device` is cpu or cuda; got {config.device}")
    n_devices = torch.cuda.device_count()
    if int(config.device.partition(":")[2] or 0) >= n_devices:
        raise InputError(f"`device={config.device}` is not here: torch {torch.__version__} sees {n_devices} CUDA devices; use cpu")


def _facts(config: SearchConfig, depth: int, checks: list[str]) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    facts = {
        "config": asdict(config),
        "unit_sequences": config.unit_sequences,
        "model": config.model,
        "data": shown(config.data),
        "depth": depth,
        "versions": versions,
    }
    return {**facts, "model_check": checks[0]} if checks else facts


def _say(line: str) -> None:
    print(f"duo-oracle: {line}", file=sys.stderr)


class _Progress:
    """The bar: positions done, positions per second, time left."""

    def __init__(self, total: int, done: int, notify: Notify | None) -> None:
        self._notify = notify
        self._done, self._started = 0, time.monotonic()
        self._bar = progress(total=total, initial=done, unit="tok", desc="search", smoothing=0.1)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def rate(self) -> float:
        """Positions per second of this session, with the time that the workers took to start."""
        return round(self._done / max(time.monotonic() - self._started, 1e-9), 3)

    def add(self, record: UnitRecord) -> None:
        self._done += record.tokens
        self._bar.update(record.tokens)

    def say(self, line: str) -> None:
        if self._notify is not None:
            self._notify(line)
        else:
            self._bar.write(f"duo-oracle: {line}", file=sys.stderr)
