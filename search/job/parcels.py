"""Parts as bytes: those of a unit solved where the run cannot be seen, which the driver writes, and those that go to a store.

A worker that sees the run writes there itself. Knows the files of a run, and not how the bytes travel.
"""

from __future__ import annotations

import hashlib
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

from duo_oracle.oracle.base.disk import disk_fault
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.remote import Remote, is_remote
from duo_oracle.oracle.base.scratch import scratch_folder
from duo_oracle.oracle.base.whole_file import write_bytes_whole
from duo_oracle.oracle.model import OracleModel
from duo_oracle.results.store.manifest import MANIFEST, part_name, part_path
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.tally import Found
from duo_oracle.search.job.worker import Job, solve_unit


@dataclass(frozen=True)
class Parcel:
    """A solved unit's record, and each table's part as the bytes of its file."""

    record: UnitRecord
    parts: dict[str, bytes]


def sees_run(directory: str, run_id: str) -> bool:
    """Whether this machine's disk, or the store as it is reached from here, has the run there. Makes nothing."""
    try:
        content = Remote(directory).read(MANIFEST) if is_remote(directory) else Path(directory, MANIFEST).read_bytes()
        return parsed_json(content)["run_id"] == run_id
    except (OSError, ValueError, KeyError, TypeError):
        return False


def solve_here(job: Job, model: OracleModel, unit: Unit, found: Found | None = None) -> UnitRecord | UnitFailure:
    """Solves the unit and puts its parts into the run, from where the run is seen: a folder, or a store."""
    if not is_remote(job.directory):
        return solve_unit(job, model, unit, found)
    parcel = solve_elsewhere(job, model, unit, found)
    if isinstance(parcel, UnitFailure):
        return parcel
    try:
        return deliver(parcel, job.directory)
    except OSError as error:
        return UnitFailure(unit.index, f"{unit}: {error}", traceback.format_exc(), disk_fault(error))


def solve_elsewhere(job: Job, model: OracleModel, unit: Unit, found: Found | None = None) -> Parcel | UnitFailure:
    """Solves the unit as `solve_unit` does, in a temporary folder that is gone afterwards."""
    with scratch_folder() as scratch:
        outcome = solve_unit(replace(job, directory=str(scratch), elsewhere=True), model, unit, found)
        if isinstance(outcome, UnitFailure):
            return outcome
        return Parcel(outcome, {table: part_path(scratch, table, unit.index).read_bytes() for table in outcome.parts})


def deliver(parcel: Parcel, directory: str) -> UnitRecord:
    """Writes the parts into the run's directory, each whole or not at all. Raises ValueError for bytes that changed on the way."""
    for table, content in parcel.parts.items():
        if hashlib.sha256(content).hexdigest() != parcel.record.parts[table].sha256:
            raise ValueError(f"unit {parcel.record.unit}: its {table} are not the bytes that its worker wrote")
    if is_remote(directory):
        remote = Remote(directory)
        for table, content in parcel.parts.items():
            remote.put(part_name(table, parcel.record.unit), content)
        return parcel.record
    for table, content in parcel.parts.items():
        path = part_path(Path(directory), table, parcel.record.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_whole(path, content, durable=True)
    return parcel.record


def lies_in(record: UnitRecord, directory: str) -> bool:
    """Whether the parts that a worker says it wrote are in the directory here: on its own disk it may have another of that name."""
    if is_remote(directory):
        return all(Remote(directory).size(part_name(table, record.unit)) == part.bytes for table, part in record.parts.items())
    paths = {table: part_path(Path(directory), table, record.unit) for table in record.parts}
    return all(path.is_file() and path.stat().st_size == record.parts[table].bytes for table, path in paths.items())
