"""Faults of the disk: no space, no right to write, a disk that fails. Nobody's input is wrong, and nothing that is done is lost.

Libraries say them in their own ways; here is which of them they are, and the one line.
"""

from __future__ import annotations

import errno
import os
import re

_FAULTS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than it may be",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk failed",
    errno.ESTALE: "the disk is gone",
    errno.ENODEV: "the disk is gone",
    errno.ENXIO: "the disk is gone",
    errno.ENOTCONN: "the disk is gone",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_SAID = re.compile(r"[\[(](?:os error|errno) (\d+)[\])]", re.IGNORECASE)  # as safetensors and Arrow have it in their texts


class StoreFault(OSError):
    """An object store that does not answer, or refuses. Its text is a line."""


def disk_fault(error: BaseException) -> str | None:
    """What the disk's fault is, where `error` is one; None for every other error.

    >>> disk_fault(OSError(28, "No space left on device", "runs/x/run.json"))
    'no space left on the disk: runs/x/run.json'
    >>> disk_fault(RuntimeError("I/O error: No space left on device (os error 28)"))
    'no space left on the disk'
    >>> disk_fault(FileNotFoundError(2, "No such file or directory", "x")) is None
    True
    """
    if isinstance(error, StoreFault):
        return str(error)
    number = getattr(error, "errno", None)
    if not isinstance(number, int):
        found = _SAID.search(str(error))
        number = int(found[1]) if found else None
    if number is None and os.strerror(errno.ENOSPC) in str(error):
        number = errno.ENOSPC
    if number not in _FAULTS:
        return None
    name = getattr(error, "filename", None)
    return _FAULTS[number] + (f": {os.fsdecode(name)}" if isinstance(name, str | bytes | os.PathLike) else "")
