"""What goes wrong around the program, disk, files and memory, as one line and an exit status. Knows no command.

Status 1: nothing is wrong with what was asked, and it may be asked again. Status 2: a file that was named cannot be read or
written.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from duo_oracle.oracle.base.disk import disk_fault
from duo_oracle.oracle.base.errors import Said
from duo_oracle.oracle.base.threads import NO_THREADS

# torch's words, Arrow's, and the system's for a library that finds no room
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "malloc of size", "failed to map segment")

# Python's words, Arrow's, and those that the system has for both
_NO_THREAD = ("can't start new thread", "failed to launch worker thread", "resource temporarily unavailable")


class Fault(NamedTuple):
    line: str
    status: int


def fault_of_surroundings(error: Exception) -> Fault | None:
    """The line and the status of an error that the program is not to blame for; None for any other."""
    said = disk_fault(error)
    if said is not None:
        return Fault(said, 1)
    first_line = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return Fault(f"the memory does not suffice: {first_line or 'MemoryError'}", 1)
    if any(words in str(error).lower() for words in _NO_THREAD):
        return Fault(NO_THREADS, 1)
    if type(error).__module__.split(".")[0] in ("duckdb", "_duckdb") and "the stream registered as" in str(error):
        return Fault(f"a part of a run cannot be read: {first_line.partition('failed: ')[2] or first_line}", 2)
    if isinstance(error, OSError):
        if isinstance(error.filename, str | bytes):
            return Fault(f"{os.fsdecode(error.filename)}: {error.strerror}", 2)
        return Fault(first_line or type(error).__name__, 2)
    return None


@contextmanager
def said_on_stderr() -> Iterator[None]:
    """Inside, what the library has to say of what it reads is a line on stderr, each once."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", Said)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, Said):
                others(message, category, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(f"duo-oracle: {message}", file=sys.stderr)

        warnings.showwarning = show
        yield
