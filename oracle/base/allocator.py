"""The C allocator's thresholds: keep freed buffers instead of returning them to the system at each call; and give them back.

glibc maps every large block anew, and the page faults of touching it cost up to half the time of a layer. A process that has
done with the weights, though, should not hold on to their memory. Knows nothing of models.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let the process reuse freed blocks of up to a gigabyte. Returns whether the allocator took it (glibc only)."""
    mallopt = _of_libc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


def return_freed_memory() -> bool:
    """Give all freed blocks back to the system at once. Returns whether there were any (glibc only)."""
    malloc_trim = _of_libc("malloc_trim")
    return malloc_trim is not None and bool(malloc_trim(0))


def _of_libc(name: str) -> Any:
    """A function of the C library; None where it has none, or is another one."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
