"""The manifest of a run: what run.json says, and the journal of units beside it.

Knows how the two are written so that a kill at any moment leaves them whole, and nothing of tables or searching.
While a run goes on, each finished or failed unit is one appended line of units.jsonl, so that the ten thousandth unit costs as
little as the first; opening and finishing a run fold the lines into run.json. A last line torn by a kill is ignored, and so is, by
its number, a line that a disk has damaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.ranges import MOST
from duo_oracle.oracle.base.whole_file import read_regular, write_bytes_whole
from duo_oracle.results.store.columns import SCHEMA_VERSION
from duo_oracle.results.store.identity_check import check_identity
from duo_oracle.results.store.records import UnitFault, UnitRecord, of_type, session_from_json

MANIFEST = "run.json"
JOURNAL = "units.jsonl"


@dataclass
class Manifest:
    """What run.json holds. `facts` are config, model, data, versions: recorded for the reader, not compared on continuing."""

    run_id: str
    schema_version: int
    identity: dict[str, Any]
    facts: dict[str, Any]
    state: str = "running"  # running | complete
    sessions: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    units: dict[int, UnitRecord] = field(default_factory=dict)
    damaged_lines: tuple[int, ...] = ()
    """Lines of the journal, counted from 1, that cannot be read: their units are not known to be done."""

    @property
    def unit_sequences(self) -> int:
        """How many sequences a unit has: what the run began with, whatever a later session was asked for."""
        return int(self.facts.get("unit_sequences") or self.identity.get("unit_sequences") or 1)

    @property
    def positions(self) -> int:
        """How many positions the finished units have."""
        return sum(record.tokens for record in self.units.values())

    def add(self, entry: UnitRecord | UnitFault) -> None:
        if isinstance(entry, UnitFault):
            self.failed[entry.unit] = entry.message
        else:
            self.units[entry.unit] = entry
            self.failed.pop(entry.unit, None)


def run_id_of(identity: Mapping[str, Any]) -> str:
    """The run's id: the same for the same identity, so that equal runs write equal bytes."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def part_path(directory: Path, table: str, unit: int) -> Path:
    return directory / part_name(table, unit)


def part_name(table: str, unit: int) -> str:
    """A part's path below its run."""
    return f"{table}/part-{unit:05d}.parquet"


def read_manifest(directory: Path) -> Manifest:
    """run.json with the journal's units folded in. Raises InputError where there is no run, or one that cannot be read."""
    path, journal = directory / MANIFEST, directory / JOURNAL
    try:
        content = read_regular(path)
    except OSError as error:
        raise InputError(f"a run is a directory that holds {MANIFEST}; {directory} does not ({error.strerror})") from None
    try:
        lines = read_regular(journal)
    except FileNotFoundError:
        lines = b""
    return manifest_of(content, lines, str(path))


def manifest_of(content: bytes, journal: bytes, where: str) -> Manifest:
    """The manifest that the bytes of run.json and the journal are. Raises InputError, with `where` they were read, for others."""
    try:
        manifest = _manifest_of(parsed_json(content))
    except KeyError as error:
        raise InputError(f"{where} is not a run's manifest: it has no {error.args[0]}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is not a run's manifest: {error}") from None
    entries, manifest.damaged_lines = _journal_of(journal)
    for entry in entries:
        manifest.add(entry)
    return manifest


def _manifest_of(values: Any) -> Manifest:
    values = of_type(values, dict, "it")
    identity = of_type(values["identity"], dict, "identity")
    run_id = of_type(values["run_id"], str, "run_id")
    if run_id != run_id_of(identity):
        raise ValueError(f"its identity is not that of run {run_id:.40}; edited by hand?")
    if values["state"] not in ("running", "complete"):
        raise ValueError(f"state must be running or complete; got {values['state']!r:.80}")
    version = of_type(values["schema_version"], int, "schema_version")
    if version <= SCHEMA_VERSION:  # a later one may say other things
        check_identity(identity)
    facts = {key: value for key, value in values.items() if key not in _OWN_KEYS}
    for key, kind in _FACTS.items():
        if facts.get(key) is not None:
            of_type(facts[key], kind, key)
            if kind is int and not _LEAST[key] <= facts[key] <= MOST:
                raise ValueError(f"{key} must be a whole number from {_LEAST[key]}; got {facts[key]!r:.80}")
    _check_means(facts.get("means") or {})
    return Manifest(
        run_id,
        version,
        identity,
        facts,
        values["state"],
        [session_from_json(entry) for entry in of_type(values["sessions"], list, "sessions")],
        {fault.unit: fault.message for fault in map(UnitFault.from_json, of_type(values["failed"], list, "failed"))},
        {record.unit: record for record in map(UnitRecord.from_json, of_type(values["units"], list, "units"))},
    )


def _check_means(means: Mapping[str, Any]) -> None:
    for budget, found in means.items():
        of_type(found, dict, f"the means of budget {budget!r:.80}")
        for name, value in found.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} at budget {budget!r:.80} must be a number or null; got {value!r:.80}")


def damaged_journal(manifest: Manifest) -> str:
    """What to say of a run whose journal has lines that cannot be read."""
    lines = manifest.damaged_lines
    return f"{JOURNAL}: line{'s' * (len(lines) > 1)} {', '.join(map(str, lines[:5]))}{', ...' * (len(lines) > 5)} cannot be read"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes run.json aside, renames it, and drops the journal that it now contains."""
    write_bytes_whole(directory / MANIFEST, manifest_bytes(manifest), durable=True)
    # A kill between these two leaves lines that run.json already has: folding them again changes nothing.
    (directory / JOURNAL).unlink(missing_ok=True)


def manifest_bytes(manifest: Manifest) -> bytes:
    """run.json as it is written."""
    values = {
        "run_id": manifest.run_id,
        "schema_version": manifest.schema_version,
        "state": manifest.state,
        "identity": manifest.identity,
        **manifest.facts,
        "sessions": manifest.sessions,
        "failed": [{"unit": unit, "message": manifest.failed[unit]} for unit in sorted(manifest.failed)],
        "units": [asdict(manifest.units[unit]) for unit in sorted(manifest.units)],
    }
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def journal_line(entry: UnitRecord | UnitFault) -> str:
    return json.dumps(asdict(entry), separators=(",", ":")) + "\n"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OWN_KEYS = {"run_id", "schema_version", "state", "identity", "sessions", "failed", "units"}
_FACTS = {
    "means": dict,
    "config": dict,
    "versions": dict,
    "model": str,
    "data": str,
    "unit_sequences": int,
    "depth": int,
    "positions": int,
}
_LEAST = {"unit_sequences": 1, "depth": 1, "positions": 0}


def _journal_of(content: bytes) -> tuple[list[UnitRecord | UnitFault], tuple[int, ...]]:
    """The entries of the journal, and the numbers of the lines that are none: a power cut leaves NULs, a disk anything."""
    entries: list[UnitRecord | UnitFault] = []
    damaged = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):  # what follows the last line end is empty, or torn
        try:
            values = of_type(parsed_json(line), dict, "a line")
            entries.append(UnitFault.from_json(values) if "message" in values else UnitRecord.from_json(values))
        except (ValueError, KeyError, TypeError):
            damaged.append(number)
    return entries, tuple(damaged)
