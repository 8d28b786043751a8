"""What a manifest says of a unit, and the one place where JSON of a manifest becomes it: as written, or refused in a line.

A manifest may have been edited by hand or damaged on its disk: each value is looked at before it is used, and no name in it
reaches beyond the run's own folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from duo_oracle.results.store.columns import TABLES

MOST_UNITS = 10**9
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PartRecord:
    """One Parquet file of a unit: what must be found when it is read again."""

    rows: int
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, values: Any) -> PartRecord:
        """Raises ValueError, KeyError or TypeError for what is none."""
        sha256 = values["sha256"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"a part's sha256 is 64 hexadecimal digits; got {sha256!r:.80}")
        return cls(_count(values, "rows"), _count(values, "bytes"), sha256)


@dataclass(frozen=True)
class UnitRecord:
    """A finished unit: how much it covers, and its parts by table name."""

    unit: int
    sequences: int
    tokens: int
    parts: dict[str, PartRecord]

    @classmethod
    def from_json(cls, values: Any) -> UnitRecord:
        """Raises ValueError, KeyError or TypeError for what is none."""
        parts = values["parts"]
        if not isinstance(parts, Mapping) or not {"tokens", "paths"} <= set(parts) <= set(TABLES):
            raise ValueError(f"a unit's parts are tokens, paths and at most losses and trials; got {parts!r:.80}")
        unit, sequences, tokens = (_count(values, name) for name in ("unit", "sequences", "tokens"))
        return cls(unit, sequences, tokens, {table: PartRecord.from_json(part) for table, part in parts.items()})


@dataclass(frozen=True)
class UnitFault:
    """A unit that failed by its own fault, and why."""

    unit: int
    message: str

    @classmethod
    def from_json(cls, values: Any) -> UnitFault:
        """Raises ValueError, KeyError or TypeError for what is none."""
        return cls(_count(values, "unit"), of_type(values["message"], str, "a failed unit's message"))


def session_from_json(values: Any) -> dict[str, Any]:
    """One entry of `sessions`. Raises ValueError, KeyError or TypeError for what is none."""
    session = of_type(values, dict, "a session")
    datetime.fromisoformat(of_type(session["started"], str, "started"))
    seconds = session["seconds"]
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf")
    ):
        raise ValueError(f"a session's seconds are a number from 0 or null; got {seconds!r:.80}")
    _count(session, "units")
    return session


def of_type(value: Any, kind: type, what: str) -> Any:
    """`value`, where it is of that type. Raises ValueError for any other."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}[kind]
        raise ValueError(f"{what} must be {name}; got {value!r:.80}")
    return value


def _count(values: Any, name: str) -> int:
    value = of_type(values[name], int, name)
    if not 0 <= value < MOST_UNITS**2:
        raise ValueError(f"{name} must be a number from 0; got {value:.3g}" if value.bit_length() < 900 else f"{name} is too large")
    return int(value)
