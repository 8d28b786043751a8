"""Where a Ray of our own keeps its sockets and logs: a short folder of its own, gone with its processes when it ends.

A socket's path has 107 bytes at most, and the temporary folders of schedulers and test suites are longer than what Ray leaves of
them. Knows no Ray: only the folder, and the processes whose command line names it.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.scratch import remove_left, scratch_folder

_PREFIX = "duo-ray-"
_MOST_BYTES = 40  # of the folder's path: Ray adds session_DATE_TIME_MICROSECONDS_PID/sockets/plasma_store.N, and some spare


@contextmanager
def ray_folder() -> Iterator[str]:
    """A new folder for a Ray. At the end what still runs in it is killed, and it is removed.

    What a killed driver left, in the same place, is removed at the start. Raises InputError where no short folder can be made.
    """
    with scratch_folder(_PREFIX, _base(), _kill_processes) as folder:
        yield str(folder)


def remove_what_killed_drivers_left() -> None:
    """The temporary folders of drivers that are gone, a Ray's and others: a search may have nothing left to do, and make none."""
    remove_left()
    with suppress(InputError):
        remove_left(_PREFIX, _base(), _kill_processes)


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


def _kill_processes(folder: Path) -> None:
    """Kills what was started with the folder in its command line: Ray's agents else report for a minute to who is gone."""
    name = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if name in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
