"""The driver's side of a run: its directory, created or continued, with one writer at a time.

Knows what makes two runs the same (their identity) and when a part on disk is whole, not what is in it. "Exists" means
"complete": parts are written aside and renamed by `results/store/parts.py`, and the manifest names them last. What the
manifest does not name is removed when the run goes on; what it names is checked, and searched again where it is broken.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from duo_oracle.oracle.base.disk import disk_fault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.whole_file import asides, write_text_whole
from duo_oracle.results.store.columns import SCHEMA_VERSION, TABLES
from duo_oracle.results.store.manifest import (
    JOURNAL,
    MANIFEST,
    Manifest,
    journal_line,
    part_path,
    read_manifest,
    run_id_of,
    write_manifest,
)
from duo_oracle.results.store.part_check import order_fault, part_fault, wrote_part
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.records import UnitFault, UnitRecord

_LOCK = ".lock"
_ONCE_IN_IDENTITY = ("memory", "unit_sequences")  # of runs that were begun before it was known that no row depends on them
_SYNC_SECONDS = 1.0


class RunWriter:
    """A run being written. Use `open`; as a context manager it lets go of the lock at the end, finished or not."""

    def __init__(self, directory: Path, manifest: Manifest, lock: TextIO | None, broken_units: tuple[int, ...]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.broken_units = broken_units
        """Units that the manifest named and whose parts were no longer whole: they are searched again."""
        self._lock = lock
        self._journal: TextIO | None = None
        self._synced = self._opened = time.monotonic()
        self._n_added = 0

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        identity: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        positions: int | None = None,
    ) -> RunWriter:
        """Creates the run, or continues the one of equal identity.

        `identity` holds all that decides the tables and nothing else (no workers, no paths of output), as JSON values;
        `facts` what else run.json shall say. Raises InputError for a directory that holds another run (unless
        `overwrite`), anything that is not a run, or a run that another process is writing. `positions`: how many the run has when
        it is complete, whatever it says of itself.
        """
        directory = Path(local_path(path))
        wanted: dict[str, Any] = json.loads(json.dumps(identity))  # as it will be read back: tuples are lists
        lock = _locked(directory)
        try:
            manifest, broken = _opened_manifest(directory, wanted, overwrite)
            if manifest.state == "complete" and positions not in (None, manifest.positions):
                manifest.state = "running"  # it says so, and names no units for some of them
            kept = {"unit_sequences": manifest.unit_sequences} if manifest.sessions else {}  # a resumed run is cut as it was begun
            manifest.facts = {**(facts or {}), **kept}
            if manifest.state == "running" or broken:
                manifest.state = "running"
                begin_session(manifest, _last_sign(directory))
                write_manifest(directory, manifest)
            return cls(directory, manifest, lock, broken)
        except BaseException:
            lock.close()
            raise

    @property
    def place(self) -> Path | str:
        """Where the run lies: its directory, or its URI."""
        return self.directory

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    @property
    def finished_units(self) -> set[int]:
        return set(self.manifest.units)

    def add_unit(self, record: UnitRecord) -> None:
        """Names a unit whose parts are in place."""
        self._append(record)
        self._n_added += 1

    def add_failure(self, unit: int, message: str) -> None:
        """Records that a unit failed by its own fault; continuing the run tries it again."""
        self._append(UnitFault(unit, message))

    def finish(self, timings: Mapping[str, Any] | None = None, means: Mapping[str, Any] | None = None) -> None:
        """Every unit was tried: the run is complete where none failed.

        `timings` go to this session's entry in run.json, `means` to its facts.
        """
        if self.manifest.state == "running":
            self.manifest.state = "running" if self.manifest.failed else "complete"
            if means is not None:
                self.manifest.facts["means"] = dict(means)
            self._end_session(timings or {})

    @property
    def stored(self) -> StoredRun:
        """The run as it is read."""
        return StoredRun(self.directory, self.manifest)

    def add_text(self, name: str, text: str) -> None:
        """Writes a small file of the run's, whole."""
        write_text_whole(self.directory / name, text)

    def _append(self, entry: UnitRecord | UnitFault) -> None:
        self.manifest.add(entry)
        if self._journal is None:
            self._journal = os.fdopen(
                _no_link(self.directory / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a", encoding="utf-8"
            )
        self._journal.write(journal_line(entry))
        self._journal.flush()
        # Flushed lines survive a kill; a loss of power may cost the last second, which is then searched again.
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            os.fsync(self._journal.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Lets go of the run, which can be continued. Raises OSError where the disk takes no more: what is there stays whole."""
        try:
            if self.manifest.state == "running" and self.manifest.sessions[-1]["seconds"] is None:
                self._end_session({})
        finally:
            if self._journal is not None:
                with contextlib.suppress(OSError):  # it tries again to write what could not be written
                    self._journal.close()
                self._journal = None
            self._let_go()

    def _end_session(self, timings: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._opened, 3)
        self.manifest.sessions[-1] |= {"seconds": seconds, "units": self._n_added, **timings}
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._write()

    def _write(self) -> None:
        write_manifest(self.directory, self.manifest)

    def _let_go(self) -> None:
        for folder in (self.directory, *(self.directory / table for table in TABLES)):
            for left in asides(folder):  # of workers that were killed while they wrote
                with contextlib.suppress(OSError):
                    left.unlink()
        assert self._lock is not None
        self._lock.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(OSError):  # what went wrong first says more
            self.close()


def begin_session(manifest: Manifest, last_sign: float | None) -> None:
    """Opens this session's entry, and closes that of a session that was killed: it lived until `last_sign` (s since 1970)."""
    last = manifest.sessions[-1] if manifest.sessions else None
    if last is not None and last["seconds"] is None:
        started = datetime.fromisoformat(last["started"]).timestamp()
        last["seconds"] = 0.0 if last_sign is None else round(max(0.0, last_sign - started), 3)
        last["units"] = max(0, len(manifest.units) - sum(session["units"] for session in manifest.sessions[:-1]))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest.sessions.append({"started": now, "seconds": None, "units": 0, "versions": manifest.facts.get("versions")})


def _last_sign(directory: Path) -> float | None:
    journal = directory / JOURNAL
    return journal.stat().st_mtime if journal.exists() else None


def _locked(directory: Path) -> TextIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        others = {entry.name for entry in set(directory.iterdir()) - set(asides(directory))} - {_LOCK}
        if others and MANIFEST not in others:
            raise InputError(
                f"`out` is a new or empty directory, or a run; {directory} holds {sorted(others)[0]} and no {MANIFEST}"
            )
        links = [name for name in (*TABLES, MANIFEST, JOURNAL, _LOCK) if (directory / name).is_symlink()]
        if links:
            raise InputError(f"nothing is changed behind a link, and {directory / links[0]}, which is the run's own, is one")
        _check_kinds(directory)
        lock = os.fdopen(_no_link(directory / _LOCK, os.O_WRONLY | os.O_CREAT), "w", encoding="utf-8")
    except OSError as error:
        if disk_fault(error) is not None:
            raise
        raise InputError(f"`out` is a directory that can be written; {directory}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process dies, however it dies
    except BlockingIOError:
        lock.close()
        raise InputError(f"one process at a time writes a run; another one is writing {directory}") from None
    except OSError as error:
        # Some cluster filesystems have no locks: the run is still safe from kills, only not from a second driver.
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return lock


def _check_kinds(directory: Path) -> None:
    """Raises InputError where something else stands in the place of what the run writes: a pipe would be waited for."""
    files = [directory / name for name in (MANIFEST, JOURNAL, _LOCK)]
    files += [path for table in TABLES for path in _parts_in(directory / table)]
    folders = [directory / table for table in TABLES]
    wrong = [("file", path) for path in files if os.path.lexists(path) and not path.is_file()]
    wrong += [("folder", path) for path in folders if os.path.lexists(path) and not path.is_dir()]
    if wrong:
        kind, path = wrong[0]
        raise InputError(f"a run writes the {kind} {path}; something else is there, which is left alone")


def _parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet")) if folder.is_dir() else []


def _no_link(path: Path, flags: int) -> int:
    """Opens a file of the run's own, never the one that a link in its place leads to."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _opened_manifest(directory: Path, identity: dict[str, Any], overwrite: bool) -> tuple[Manifest, tuple[int, ...]]:
    fresh = Manifest(run_id_of(identity), SCHEMA_VERSION, identity, {})
    if not (directory / MANIFEST).exists():
        return fresh, ()
    found = read_manifest(directory)  # also where it is to be replaced: a foreign run.json is nobody's to overwrite
    if overwrite:
        # Parts before the manifest: killed between, the directory is still known for a run.
        (directory / JOURNAL).unlink(missing_ok=True)
        _remove_parts(directory, found.run_id, keep=set())
        write_manifest(directory, fresh)
        return fresh, ()
    check_same(directory, found, identity)
    broken = tuple(unit for unit, record in sorted(found.units.items()) if not _is_whole(directory, record))
    for unit in broken:
        del found.units[unit]
    for table in TABLES:
        records = [record for _, record in sorted(found.units.items()) if table in record.parts]
        fault = order_fault(directory, table, records)
        if fault is not None:
            raise InputError(f"{fault}; its manifest was edited: `overwrite` begins anew, another `out` keeps both")
    _remove_parts(
        directory, found.run_id, keep={part_path(directory, table, unit) for unit, r in found.units.items() for table in r.parts}
    )
    return found, broken


def check_same(directory: Path | str, found: Manifest, identity: dict[str, Any]) -> None:
    if found.schema_version != SCHEMA_VERSION:
        raise InputError(
            f"{directory} holds a run of version {found.schema_version} of the tables, which can be read but not resumed (this is "
            f"version {SCHEMA_VERSION}); `overwrite` replaces it, another `out` keeps both"
        )
    old, new = found.identity, identity
    dropped = [key for key in old if key not in new and key not in _ONCE_IN_IDENTITY]
    differing = [key for key in (*new, *dropped) if old.get(key) != new.get(key)]
    if differing:
        said = "; ".join(f"{key} {old.get(key)!r}, not {new.get(key)!r}" for key in differing)
        raise InputError(f"{directory} holds a run with {said}; `overwrite` replaces it, another `out` keeps both")


def _is_whole(directory: Path, record: UnitRecord) -> bool:
    return all(part_fault(directory, table, record) is None for table in record.parts)


def _remove_parts(directory: Path, run_id: str, keep: set[Path]) -> None:
    """Removes parts that the run itself wrote and their temporary files but `keep`, and nothing else that may lie there."""
    for table in TABLES:
        folder = directory / table
        if folder.is_symlink():
            continue
        for path in set(folder.glob("part-*.parquet")) - keep:
            if path.is_file() and not path.is_symlink() and wrote_part(path, run_id):
                path.unlink()
        for path in asides(folder):
            path.unlink(missing_ok=True)
