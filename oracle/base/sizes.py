"""Sizes of memory as users write them: 512MiB, 2G."""

from __future__ import annotations

import re

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import MOST

_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str) -> int:
    """How many bytes `text` says: a number with K, M, G or T (binary; `GiB` and `GB` alike) or none. Raises InputError.

    >>> parse_bytes("1.5 GiB"), parse_bytes("512M")
    (1610612736, 536870912)
    """
    form = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = float(form[1]) * _BYTES[form[2].upper()] if form else 0.0
    if not 1 << 20 <= size <= MOST:
        raise InputError(f"a size of memory is at least 1MiB, less than 8388608TiB, and written like 512MiB or 2GiB; got {text!r}")
    return int(size)
