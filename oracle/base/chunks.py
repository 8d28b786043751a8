"""A long range in pieces."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices that cover range(n), each of at most `size`."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
