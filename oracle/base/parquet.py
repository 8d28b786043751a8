"""What is raised of a Parquet or Arrow file that cannot be read, in one place: every reader refuses all of it in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from duo_oracle.oracle.base.errors import InputError


def parquet_faults() -> tuple[type[Exception], ...]:
    """Arrow's own exceptions, the system's, and Python's for a name in the footer that is not UTF-8."""
    import pyarrow as pa

    return pa.ArrowException, OSError, UnicodeDecodeError


@contextmanager
def refused_as(shown: str, what: str = "Parquet") -> Iterator[None]:
    """Inside, an InputError is raised for a file, `shown` so, that cannot be read; a fault of the disk, which names it, passes."""
    try:
        yield
    except parquet_faults() as fault:
        if isinstance(fault, OSError) and fault.filename is not None:
            raise
        raise InputError(f"{shown}: not a readable {what} file: {str(fault).splitlines()[0]}") from None
