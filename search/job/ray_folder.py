"""Where a Ray of our own keeps its sockets and logs: a short folder of its own, gone with its processes when it ends.

A socket's path has 107 bytes at most, and the temporary folders of schedulers and test suites are longer than what Ray leaves of
them. Knows no Ray: only the folder, and the processes whose command line names it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from duo_oracle.oracle.base.errors import InputError

_PREFIX = "duo-ray-"
_LOCK = "in-use"
_MOST_BYTES = 40  # of the folder's path: Ray adds session_DATE_TIME_MICROSECONDS_PID/sockets/plasma_store.N, and some spare
_YOUNG_SECONDS = 60


@contextmanager
def ray_folder() -> Iterator[str]:
    """A new folder for a Ray. At the end what still runs in it is killed, and it is removed.

    What a killed driver left, in the same place, is removed at the start. Raises InputError where no short folder can be made.
    """
    base = _base()
    _remove_left(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    with (folder / _LOCK).open("w") as lock:  # the system lets go of it when the process dies, however it dies
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield str(folder)
        finally:
            _kill_processes(folder)
            for _ in range(20):  # a process that is dying may still write
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    break
                time.sleep(0.1)


def _base() -> Path:
    """The first of the usual temporary folders that is short enough and can be written."""
    usual = [tempfile.gettempdir(), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    for name in dict.fromkeys(filter(None, usual)):
        path = Path(name).absolute()
        if len(os.fsencode(path)) + 1 + len(_PREFIX) + 8 <= _MOST_BYTES and os.access(path, os.W_OK | os.X_OK):
            return path
    raise InputError(
        f"Ray's sockets need a temporary folder whose path is short; got {tempfile.gettempdir()}: set TMPDIR to one of at most "
        f"{_MOST_BYTES - 9 - len(_PREFIX)} bytes, or search with `local`"
    )


def _remove_left(base: Path) -> None:
    """Removes folders of drivers that are gone; those in use are locked."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if folder.is_symlink() or status.st_uid != os.getuid() or time.time() - status.st_mtime < _YOUNG_SECONDS:
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _kill_processes(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _kill_processes(folder: Path) -> None:
    """Kills what was started with the folder in its command line: Ray's agents else report for a minute to who is gone."""
    name = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if name in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
