"""The words of options about text. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from enum import StrEnum

from duo_oracle.oracle.base.errors import InputError

BLANK_LINES = "blank-lines"


class SpecialTokens(StrEnum):
    """How a special token that is written in a text is read: as the characters that it is, or as the one token."""

    TEXT = "text"
    PARSE = "parse"


def parse_split(split: str | None) -> str | int | None:
    """BLANK_LINES, a number of tokens, or None. Raises InputError for another text."""
    if split is None or split == BLANK_LINES:
        return split
    if not str(split).isdecimal() or int(split) < 2:
        raise InputError(f"`split` is {BLANK_LINES}, or a number of tokens, at least 2; got {split!r}")
    return int(split)


def sources_of(data: str | Iterable[str]) -> tuple[str, ...]:
    """The sources that data names: a text by itself is one."""
    return (data,) if isinstance(data, str) else tuple(data)


def shown(data: Iterable[str]) -> str:
    """Sources as one text: one as it is, several as a shell would take them."""
    data = tuple(data)
    return data[0] if len(data) == 1 else shlex.join(data)
