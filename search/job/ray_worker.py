"""What a worker of Ray does: builds its model once, and solves units with it."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from typing import Any

from duo_oracle.models.family import load_model
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.parcels import Parcel, sees_run, solve_elsewhere, solve_here
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.tally import TOLD_SECONDS, counting
from duo_oracle.search.job.weights import checkpoint_in
from duo_oracle.search.job.worker import Job, prepare_worker

_built: dict[tuple[str, ...], OracleModel] = {}  # of this worker process: the one model it was last asked for


@dataclass(frozen=True)
class ModelSource:
    """Where a worker has the model from: the directory, where its node sees it, or else the object store."""

    directory: str | None
    fingerprint: str
    weights: tuple[Any]  # a reference inside a tuple is followed only by who asks for it


def _model_of(job: Job, source: ModelSource) -> OracleModel:
    key = (source.fingerprint, job.dtype, job.device, job.route_layers or "", job.problem.table.spec, job.problem.table.gate)
    if key not in _built:
        import ray

        _built.clear()
        prepare_worker(job.threads)
        checkpoint = checkpoint_in(source.directory, source.fingerprint) or ray.get(source.weights[0]).restore()
        table = job.problem.table
        _built[key] = load_model(checkpoint, job.dtype, job.device, job.route_layers, branches=table.spec, gate=table.gate)
    return _built[key]


@dataclass(frozen=True)
class Unusable:
    """A node on which no unit can begin, such as one whose device the model does not fit, and why."""

    node: str
    reason: str


def solve(
    job: Job, source: ModelSource, unit: Unit, travels: bool, tally: Any = None
) -> tuple[str, UnitRecord | UnitFailure | Parcel | Unusable]:
    """Of a worker: what became of the unit, and the node's name. `travels`: the node's own disk is not to be written to."""
    try:
        model = _model_of(job, source)
    except Exception as error:
        import ray

        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return platform.node(), Unusable(ray.get_runtime_context().get_node_id(), reason)
    found = None if tally is None else counting(unit.index, len(job.problem.budgets), tally.tell.remote, TOLD_SECONDS)
    if travels or not sees_run(job.directory, job.run_id):
        return platform.node(), solve_elsewhere(job, model, unit, found)
    return platform.node(), solve_here(job, model, unit, found)


def begin(job: Job, source: ModelSource) -> None:
    """Of a worker: the model is built before the first unit is there."""
    with contextlib.suppress(Exception):  # the first unit says what is wrong
        _model_of(job, source)
