"""Temporary folders that a killed process leaves to nobody: the next one that makes its like, or asks for it, removes them.

A folder in use is locked, and the system lets go of the lock when the process dies, however it dies. Knows not what is in them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = "in-use"
PREFIX = "duo-oracle-"


def _as_it_is(folder: Path) -> None:
    """Nothing is to be done before it is removed."""


@contextmanager
def scratch_folder(
    prefix: str = PREFIX, base: Path | None = None, before_removal: Callable[[Path], None] = _as_it_is
) -> Iterator[Path]:
    """A new folder below `base`, the system's for temporary files by default; gone at the end, with all that is in it.

    Those of the same prefix whose process is gone are removed first; `before_removal` is called with each, and with this one.

    >>> with scratch_folder() as folder:
    ...     _ = (folder / "part").write_text("rows")
    >>> folder.exists()
    False
    """
    base = Path(tempfile.gettempdir()) if base is None else base
    remove_left(prefix, base, before_removal)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    fresh = folder / f"{_LOCK}-soon"
    with fresh.open("w") as lock:
        with suppress(OSError):  # a file system without locks: the folder then has no lock, and is left alone
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fresh.rename(folder / _LOCK)  # named only once it is locked
        try:
            yield folder
        finally:
            with suppress(OSError):
                _remove(folder, before_removal)


def remove_left(prefix: str = PREFIX, base: Path | None = None, before_removal: Callable[[Path], None] = _as_it_is) -> None:
    """Removes folders of processes that are gone; those in use are locked, and those without a lock another's affair."""
    for folder in (Path(tempfile.gettempdir()) if base is None else base).glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder, before_removal)


def _remove(folder: Path, before_removal: Callable[[Path], None]) -> None:
    """The lock goes last: what a dying process writes for longer than this waits is the next one's to remove."""
    before_removal(folder)
    for _ in range(20):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                with suppress(OSError):  # one that stays must not keep the others
                    entry.unlink()
        if all(entry.name == _LOCK for entry in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
            return
        time.sleep(0.1)
