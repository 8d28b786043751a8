"""The driver's side of a run in an object store: the same laws as `writer.py`, with objects in place of files.

Parts are put under their own names by whoever solved them, the manifest names them last, and a lease stands for the lock. The
journal is one object, put again at most every few seconds: a kill costs the units since then, which are searched again, to
the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.remote import Changed, Remote, is_remote
from duo_oracle.results.store.columns import SCHEMA_VERSION, TABLES
from duo_oracle.results.store.lease import LEASE, Lease
from duo_oracle.results.store.manifest import (
    JOURNAL,
    MANIFEST,
    Manifest,
    journal_line,
    manifest_bytes,
    part_name,
    run_id_of,
)
from duo_oracle.results.store.reader import StoredRun, remote_manifest
from duo_oracle.results.store.records import UnitFault, UnitRecord
from duo_oracle.results.store.writer import RunWriter, begin_session, check_same

JOURNAL_SECONDS = 5.0


def open_run(
    place: str | os.PathLike[str],
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    overwrite: bool = False,
    positions: int | None = None,
) -> RunWriter:
    """The run at a path or a URI, made or continued, as `RunWriter.open` says."""
    if is_remote(place):
        return RemoteRunWriter.begin(Remote(str(place)), identity, facts, overwrite, positions)
    return RunWriter.open(place, identity, facts, overwrite, positions)


class RemoteRunWriter(RunWriter):
    """A run being written in a store. `directory` is this machine's folder for copies of it."""

    def __init__(self, remote: Remote, manifest: Manifest, lease: Lease, broken_units: tuple[int, ...]) -> None:
        super().__init__(remote.mirror(), manifest, None, broken_units)
        self._at, self._lease = remote, lease
        self._lines: list[str] = []
        self._journal_version = remote.version(JOURNAL)
        self._manifest_version = remote.version(MANIFEST)

    @classmethod
    def begin(
        cls, remote: Remote, identity: Mapping[str, Any], facts: Mapping[str, Any], overwrite: bool, positions: int | None
    ) -> RemoteRunWriter:
        """Raises InputError for a folder that holds another run or anything else, or one that another process is writing."""
        wanted: dict[str, Any] = json.loads(json.dumps(identity))
        _check_folder(remote)
        lease = Lease.taken(remote)
        try:
            manifest, broken = _opened(remote, wanted, overwrite)
            if manifest.state == "complete" and positions not in (None, manifest.positions):
                manifest.state = "running"
            kept = {"unit_sequences": manifest.unit_sequences} if manifest.sessions else {}
            manifest.facts = {**facts, **kept}
            run = cls(remote, manifest, lease, broken)
            if manifest.state == "running" or broken:
                manifest.state = "running"
                begin_session(manifest, None)
                run._write()
            return run
        except BaseException:
            with contextlib.suppress(OSError):
                lease.release()
            raise

    @property
    def place(self) -> str:
        return self._at.uri

    @property
    def stored(self) -> StoredRun:
        return StoredRun(self.directory, self.manifest, self._at)

    def add_text(self, name: str, text: str) -> None:
        self._lease.check()
        self._at.put(name, text.encode("utf-8"))

    def _append(self, entry: UnitRecord | UnitFault) -> None:
        self._lease.check()
        self.manifest.add(entry)
        self._lines.append(journal_line(entry))
        if time.monotonic() - self._synced >= JOURNAL_SECONDS:
            with self._in_order():
                self._journal_version = self._at.swap(JOURNAL, "".join(self._lines).encode(), self._journal_version)
            self._synced = time.monotonic()

    def _write(self) -> None:
        self._lease.check()
        with self._in_order():
            self._manifest_version = self._at.swap(MANIFEST, manifest_bytes(self.manifest), self._manifest_version)
        self._at.remove([JOURNAL])
        self._lines, self._journal_version = [], None

    def _let_go(self) -> None:
        self._lease.release()

    @contextlib.contextmanager
    def _in_order(self) -> Any:
        try:
            yield
        except Changed:
            raise Outage(f"another process writes {self._at.uri}; what is done is kept, and that one goes on") from None


def _check_folder(remote: Remote) -> None:
    if remote.version(MANIFEST) is not None:
        return
    parts = tuple(f"{table}/part-" for table in TABLES)  # of a run whose manifest was never written, or is being begun
    others = [name for name in remote.sizes() if name != LEASE and not name.startswith(parts)]
    if others:
        raise InputError(f"`out` is a new or empty folder, or a run; {remote.uri} holds {others[0]} and no {MANIFEST}")


def _opened(remote: Remote, identity: dict[str, Any], overwrite: bool) -> tuple[Manifest, tuple[int, ...]]:
    """The manifest, and the units whose parts are not there as they were written."""
    fresh = Manifest(run_id_of(identity), SCHEMA_VERSION, identity, {})
    if remote.version(MANIFEST) is None:
        return fresh, ()
    found = remote_manifest(remote)
    if overwrite:
        # Parts before the manifest: killed between, the folder is still known for a run.
        remote.remove([JOURNAL, *(part_name(table, unit) for unit, record in found.units.items() for table in record.parts)])
        return fresh, ()
    check_same(remote.uri, found, identity)
    sizes = {name: size for table in TABLES for name, size in remote.sizes(table).items()}
    broken = tuple(
        unit
        for unit, record in sorted(found.units.items())
        if any(sizes.get(part_name(table, unit)) != part.bytes for table, part in record.parts.items())
    )
    for unit in broken:
        del found.units[unit]
    return found, broken
