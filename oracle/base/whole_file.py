"""Files that are whole or not there: written under another name in the same folder, then renamed.

The one place that does so; run parts, manifests, models, tables and pages all go through it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = re.compile(r"\..+\.tmp(\.\w+)?")


def aside_of(path: Path) -> Path:
    """The name to write `path` under until it is whole. It keeps the suffix, by which some writers choose a format."""
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")


def asides(folder: Path) -> list[Path]:
    """Files in `folder` that were being written: of this process, of another, or left by a kill. None behind a link."""
    if folder.is_symlink():
        return []
    return sorted(path for path in folder.glob(".*.tmp*") if _ASIDE.fullmatch(path.name) and not path.is_dir())


def settle(aside: Path, path: Path, durable: bool = False) -> None:
    """Gives a file that is finished its own name. `durable`: the bytes are on the disk before the rename."""
    if durable:
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(aside, path)


@contextmanager
def written_whole(path: Path, durable: bool = False) -> Iterator[Path]:
    """The name to write under; after the block the file has its own name, and after an exception in it there is none.

    `durable`: the bytes are on the disk before the rename.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_whole(Path(folder, "table.csv")) as aside:
    ...         _ = aside.write_text("a,b")
    ...     [file.name for file in Path(folder).iterdir()]
    ['table.csv']
    """
    aside = aside_of(path)
    try:
        yield aside
        settle(aside, path, durable)
    except OSError as fault:
        if fault.filename is None or os.fspath(fault.filename) == os.fspath(aside):
            fault.filename = os.fspath(path)  # a full disk names no file, and nobody knows the other name
        raise
    finally:
        with contextlib.suppress(OSError):  # what went wrong before says more
            aside.unlink(missing_ok=True)


def read_regular(path: Path) -> bytes:
    """A file's bytes. Raises OSError for what is no file: a pipe in its place would be waited for for ever."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a file", os.fspath(path))
    with os.fdopen(opened, "rb") as file:
        return file.read()


def write_bytes_whole(path: Path, content: bytes, durable: bool = False) -> None:
    with written_whole(path, durable) as aside:
        aside.write_bytes(content)


def write_text_whole(path: Path, text: str, durable: bool = False) -> None:
    write_bytes_whole(path, text.encode("utf-8"), durable)
