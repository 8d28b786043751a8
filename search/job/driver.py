"""The main job: from a config to a finished run directory.

Reads the model and the data, plans units, hands them to a pool, and keeps the manifest. Holds a few units at a time, never
all sequences. Knows neither Ray nor how a unit is solved.
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from duo_oracle.models.checkpoint import Checkpoint, model_directory, read_checkpoint
from duo_oracle.models.family import load_model, load_module
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, read_router
from duo_oracle.models.routing import check_router
from duo_oracle.models.text.options import shown
from duo_oracle.models.text.sources import find_files
from duo_oracle.models.text.windows import Window, data_fingerprint
from duo_oracle.models.tracker import tracked
from duo_oracle.oracle.base.allocator import return_freed_memory
from duo_oracle.oracle.base.cores import n_cores
from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.base.remote import is_remote
from duo_oracle.oracle.base.threads import ready_arrow
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel, cheapest_branch, check_skip, check_small, own_cost_of
from duo_oracle.results.answers.curve import as_record, budget_lines
from duo_oracle.results.statistics.means import run_means
from duo_oracle.results.store.manifest import damaged_journal
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.remote_writer import open_run
from duo_oracle.results.store.texts import vocabulary_texts
from duo_oracle.search.job.all_full import fitted_temperatures
from duo_oracle.search.job.bar import Bar
from duo_oracle.search.job.config import SearchConfig, parse_temperature
from duo_oracle.search.job.config_file import CONFIG, config_text
from duo_oracle.search.job.identity import identity_of
from duo_oracle.search.job.local_pool import LocalPool
from duo_oracle.search.job.plan import Plan, Survey, counted, duration_said, pace_said, patterns_said, tried
from duo_oracle.search.job.pool import Notify, Pool, Unit, UnitFailure, plan_units
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.ray_folder import remove_what_killed_drivers_left
from duo_oracle.search.job.ray_pool import RayPool, default_workers
from duo_oracle.search.job.ray_session import check_address
from duo_oracle.search.job.reference import open_reference, with_references
from duo_oracle.search.job.routed import context_name, routed
from duo_oracle.search.job.text import text_of
from duo_oracle.search.job.unit import check_strategy, solve_sequences
from duo_oracle.search.job.worker import Job, Solve, prepared

VERSIONED = ("torch", "numpy", "ray", "pyarrow", "optuna", "duo-oracle")


@dataclass(frozen=True)
class Outcome:
    """What became of a run: where it lies (a path, or a URI), how many units this session solved, and what failed."""

    directory: Path | str
    solved: int
    failures: tuple[UnitFailure, ...]
    plan: tuple[str, ...] = ()
    """Of a dry run, what would be done, in lines."""


def run_search(
    config: SearchConfig,
    *,
    notify: Notify | None = None,
    solve: Solve = solve_sequences,
    spell: Callable[[str], str] = str,
) -> Outcome:
    """Does the job of `duo-oracle search`, or goes on with it where `config.out` holds a part of it already.

    Raises InputError for a model, data or run directory that does not fit. A unit that fails costs no other: it is in the
    outcome, in run.json, and tried again by the next call. Progress is shown on a terminal and in a notebook; `notify`
    takes what is said of failures and dead workers (default: a line on stderr), and `spell` writes the parameters in it.
    Raises Outage where the disk takes no more: the run is kept as it is, and goes on once there is room. A `dry_run` reads
    everything, makes nothing, and says what would be done.
    """
    _check_device(config)
    ready_arrow()  # while there is room: the run is read at its end
    if config.address is not None:
        check_address(config.address)
    find_files(config.data)  # a name that is none costs no loading of a model
    checkpoint = read_checkpoint(config.model)
    # On a cluster the GPUs may be the workers' alone; the driver needs only the sizes, and to know that the weights fit.
    checks: list[str] = []
    device = config.device if config.local else "cpu"
    model = load_model(checkpoint, config.dtype, device, config.route_layers, checks.append, config.branches, config.gate)
    own_cost = own_cost_of(model)
    asked_units = config.unit_sequences
    text = text_of(config, checkpoint, model, config.offset)
    front, read = text.front, text.read
    config = config.resolved(model.n_letters, text.seq_len, own_cost)
    problem = config.problem(model.n_letters, cheapest_branch(model), own_cost)
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
    fingerprint, survey = _surveyed(read(notify=notify or _say))
    n_positions = survey.n_positions
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
        own_cost=own_cost,
    )
    if config.dry_run:
        seconds = tried(model, sequences(), problem, solve, config.unit_sequences or 1) if references is None else None
        return Outcome(config.out, 0, (), (str(_plan(config, problem, survey)), *_estimated(config, survey, seconds)))
    texts = vocabulary_texts(checkpoint.tokenizer_json)
    facts = {**_facts(config, model.depth, checks), "positions": n_positions}
    remove_what_killed_drivers_left()
    with open_run(config.out, identity, facts, config.overwrite, n_positions) as run:
        if run.manifest.state == "complete":
            return Outcome(run.place, 0, ())
        run.add_text(CONFIG, config_text(replace(config, unit_sequences=run.manifest.unit_sequences)))
        job = Job(
            directory=config.out if is_remote(config.out) else str(Path(config.out).resolve()),
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
        with Bar(n_positions, done, notify, spell) as bar:
            if asked_units not in (None, run.manifest.unit_sequences):
                bar.say(f"the run was begun in units of {run.manifest.unit_sequences} sequences and keeps them")
            if run.manifest.damaged_lines:
                bar.say(f"{damaged_journal(run.manifest)}; what they were of is searched again")
            if run.broken_units:
                bar.say(f"parts of {len(run.broken_units)} units are not what the run wrote; the units are searched again")
            for line in checks:
                bar.say(f"{config.model}: {line}")
            solved, failures = 0, []
            if done != n_positions:
                plan = _plan(replace(config, unit_sequences=run.manifest.unit_sequences), problem, survey, done)
                bar.tell(str(plan))
                if plan.warning is not None:
                    bar.tell(plan.warning)
                entered = _pool(config, job, checkpoint, model, bar)
                del checkpoint, model  # the pool has what it needs; with Ray the driver then holds no weights
                with prepared(config.threads), entered as pool:  # the reference is asked in this process
                    return_freed_memory()
                    for outcome in pool.run(units):
                        if isinstance(outcome, UnitFailure) and outcome.disk is not None:
                            raise Outage(f"{outcome.disk}, in {config.out}; what is done is kept, and the same command resumes")
                        if isinstance(outcome, UnitFailure):
                            failures.append(outcome)
                            run.add_failure(outcome.unit, outcome.message)
                            bar.say(f"failed: {outcome.message}")
                        else:
                            solved += 1
                            run.add_unit(outcome)
                            bar.add(outcome)
            means = None if failures else run_means(run.stored)
            run.finish({"local": config.local, "tokens_per_second": bar.rate}, means)
            if config.track is not None and not failures:
                _track(config, run.stored)
        return Outcome(run.place, solved, tuple(failures))


def _track(config: SearchConfig, run: StoredRun) -> None:
    """Sends the run's curve: of every budget its means in nats, BUDGET/NAME."""
    with tracked(config.track, config.out, asdict(config)) as tracker:
        values = {
            f"{line.budget}/{name}": value
            for line in budget_lines(run)
            for name, value in as_record(line).items()
            if isinstance(value, float) and not name.endswith(("_low", "_high"))
        }
        tracker.log(values, run.n_tokens)


def _pool(config: SearchConfig, job: Job, checkpoint: Checkpoint, model: OracleModel, bar: Bar) -> Pool:
    if config.local:
        return LocalPool(job, model, bar.moved)
    moved = bar.moved if bar.looked_on else None
    place = str(model_directory(config.model).resolve())
    return RayPool(job, checkpoint, config.workers, config.address, bar.say, moved, model, place)


def _plan(config: SearchConfig, problem: Problem, survey: Survey, n_done: int = 0) -> Plan:
    n_units = -(-survey.n_windows // (config.unit_sequences or 1))
    if config.local:
        cores = n_cores()
        more = f" of {cores} cores (without `local=True` every core has a worker)" if cores > config.threads else ""
        workers = f"in this process, on {counted(config.threads, 'thread')}{more}"
    elif config.address is not None:
        workers = f"on the cluster at {config.address}" + (f", {config.workers} at a time" if config.workers else "")
    else:
        workers = f"on {counted(config.workers or default_workers(config.device, config.threads), 'worker')}"
    said = patterns_said(problem)
    return Plan(survey.n_windows, survey.n_documents, survey.n_positions, n_done, n_units, said, workers, config.split is not None)


def _estimated(config: SearchConfig, survey: Survey, seconds: float | None) -> list[str]:
    """What a dry run says of the time, from the seconds that one worker took a position."""
    if seconds is None:
        return ["the time is not estimated for a search with a reference"]
    n_workers = 1 if config.local else config.workers or default_workers(config.device, config.threads)
    n_units = -(-survey.n_windows // (config.unit_sequences or 1))
    total = seconds * survey.n_positions / min(n_workers, n_units)
    return [f"about {duration_said(total)}: {pace_said(seconds)} a token on one worker, by a trial of the first positions"]


def _routed(
    router: Router, module: RoutableModule, read: Callable[[], Iterable[Window]], skip: SkipReading, fingerprint: str
) -> Iterable[Window]:
    return routed(router, module, read(), skip, fingerprint)


def _surveyed(sequences: Iterable[Window]) -> tuple[str, Survey]:
    """The data's fingerprint and how much there is to search, in one reading that holds one sequence at a time.

    It meets every error of the data before any work is done.
    """
    survey = Survey()
    with progress(desc="reading", unit=" windows") as bar:

        def shown() -> Iterator[Window]:
            for window in survey.counted(sequences):
                bar.update(1)
                yield window

        return data_fingerprint(shown()), survey


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
