"""One writer at a time where no file can be locked: an object that says who writes, renewed while it does.

A lease that its owner no longer renews is taken over, at once where the owner was a process of this machine that is gone. All its
writes are conditional where the store has that: of two who take over, one does, and who was slow finds out before it writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.remote import Changed, Remote

LEASE = ".lease.json"
RENEWED_EVERY, STALE_AFTER = 10.0, 60.0  # seconds


class Lease:
    """Held from `taken` until `release`. `check` before each write: it raises Outage once another process has taken over."""

    def __init__(self, remote: Remote, owner: dict[str, Any], version: str) -> None:
        self._remote, self._owner, self._version = remote, owner, version
        self._ended, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @classmethod
    def taken(cls, remote: Remote) -> Lease:
        """Raises InputError where another process holds it."""
        before, version = _held(remote)
        if before is not None and not _is_stale(before):
            raise InputError(f"one process at a time writes a run; another one is writing {remote.uri} ({_named(before)})")
        owner = {"owner": uuid.uuid4().hex, "host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()}
        try:
            return cls(remote, owner, remote.swap(LEASE, _content(owner), version))
        except Changed:
            raise InputError(f"one process at a time writes a run; another one has begun to write {remote.uri}") from None

    def check(self) -> None:
        if self._lost:
            raise Outage(f"another process has taken over {self._remote.uri}; what is done is kept, and that one goes on")

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        if not self._lost and _held(self._remote)[1] == self._version:
            self._remote.remove([LEASE])

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_EVERY):
            try:
                self._version = self._remote.swap(LEASE, _content(self._owner), self._version)
            except Changed:
                self._lost = True
                return
            except OSError:  # the store does not answer; the next write says so
                continue


def _content(owner: dict[str, Any]) -> bytes:
    return json.dumps({**owner, "renewed": round(time.time(), 3)}).encode()


def _held(remote: Remote) -> tuple[dict[str, Any] | None, str | None]:
    version = remote.version(LEASE)
    if version is None:
        return None, None
    try:
        found = json.loads(remote.read(LEASE))
        return (found if isinstance(found, dict) else {}), version
    except FileNotFoundError:
        return None, None
    except ValueError:  # nobody's that can be known
        return {}, version


def _is_stale(lease: dict[str, Any]) -> bool:
    renewed, pid = lease.get("renewed"), lease.get("pid")
    if not isinstance(renewed, int | float) or abs(time.time() - renewed) > STALE_AFTER:
        return True
    return lease.get("machine") == _machine() != "" and isinstance(pid, int) and not Path(f"/proc/{pid}").exists()


def _machine() -> str:
    """This machine since it was started, and its space of process ids; empty where neither can be known."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return ""


def _named(lease: dict[str, Any]) -> str:
    ago = time.time() - lease["renewed"]
    who = f"process {lease.get('pid')} of {lease.get('host')}, {max(ago, 0):.0f} s ago"
    return f"{who}; it is free {STALE_AFTER:.0f} s after its last sign"
