"""The manifest of a run: what run.json says, and the journal of units beside it.

Knows how the two are written so that a kill at any moment leaves them whole, and nothing of tables or searching.
While a run goes on, each finished or failed unit is one appended line of units.jsonl, so that the ten thousandth unit costs as
little as the first; opening and finishing a run fold the lines into run.json. A last line torn by a kill is ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.whole_file import write_text_whole

MANIFEST = "run.json"
JOURNAL = "units.jsonl"


@dataclass(frozen=True)
class PartRecord:
    """One Parquet file of a unit: what must be found when it is read again."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class UnitRecord:
    """A finished unit: how much it covers, and its parts by table name."""

    unit: int
    sequences: int
    tokens: int
    parts: dict[str, PartRecord]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UnitRecord:
        parts = {table: PartRecord(**part) for table, part in values["parts"].items()}
        return cls(values["unit"], values["sequences"], values["tokens"], parts)


@dataclass(frozen=True)
class UnitFault:
    """A unit that failed by its own fault, and why."""

    unit: int
    message: str


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

    @property
    def unit_sequences(self) -> int:
        """How many sequences a unit has: what the run began with, whatever a later session was asked for."""
        return int(self.facts.get("unit_sequences") or self.identity.get("unit_sequences") or 1)

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
    return directory / table / f"part-{unit:05d}.parquet"


def read_manifest(directory: Path) -> Manifest:
    """run.json with the journal's units folded in. Raises InputError where there is no run, or one that cannot be read."""
    path = directory / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(
            values["run_id"],
            values["schema_version"],
            values["identity"],
            {key: value for key, value in values.items() if key not in _OWN_KEYS},
            values["state"],
            values["sessions"],
            {entry["unit"]: entry["message"] for entry in values["failed"]},
            {entry["unit"]: UnitRecord.from_json(entry) for entry in values["units"]},
        )
    except OSError as error:
        raise InputError(f"a run is a directory that holds {MANIFEST}; {directory} does not ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a run's manifest: {type(error).__name__} {error}") from None
    for entry in _read_journal(directory / JOURNAL):
        manifest.add(entry)
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes run.json aside, renames it, and drops the journal that it now contains."""
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
    write_text_whole(directory / MANIFEST, json.dumps(values, indent=1, ensure_ascii=False) + "\n", durable=True)
    # A kill between these two leaves lines that run.json already has: folding them again changes nothing.
    (directory / JOURNAL).unlink(missing_ok=True)


def journal_line(entry: UnitRecord | UnitFault) -> str:
    return json.dumps(asdict(entry), separators=(",", ":")) + "\n"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_OWN_KEYS = {"run_id", "schema_version", "state", "identity", "sessions", "failed", "units"}


def _read_journal(path: Path) -> list[UnitRecord | UnitFault]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    whole_lines = text.split("\n")[:-1]  # what follows the last line end is empty, or torn
    entries = [json.loads(line) for line in whole_lines]
    return [UnitFault(**entry) if "message" in entry else UnitRecord.from_json(entry) for entry in entries]
