"""What is raised of a Parquet or Arrow file that cannot be read, in one place: every reader refuses all of it in a line."""

from __future__ import annotations


def parquet_faults() -> tuple[type[Exception], ...]:
    """Arrow's own exceptions, the system's, and Python's for a name in the footer that is not UTF-8."""
    import pyarrow as pa

    return pa.ArrowException, OSError, UnicodeDecodeError
