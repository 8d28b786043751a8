"""Git LFS pointers: the three lines that stand for a large file until it is fetched. Knows no format of files."""

from __future__ import annotations

from duo_oracle.oracle.base.errors import InputError

_BEGINS = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(head: bytes, shown: object) -> None:
    """Raises InputError where a file begins with `head` as a pointer does; `shown` names the file."""
    if head.startswith(_BEGINS):
        raise InputError(f"{shown}: this is a Git LFS pointer and not the file itself; git lfs pull fetches it")
