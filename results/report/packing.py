"""Columns of numbers as base64 blocks of typed arrays, which a page decodes when it needs them. Knows nothing of runs.

A column of one value is that value and no block. Bytes are little-endian, as every browser's typed arrays are in practice.

Axes: N rows.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.statistics.intervals import Estimate

_KINDS = {"f4": np.float32, "u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "i4": np.int32}


@dataclass
class Blocks:
    """The blocks of a page by their id, in the order in which they were added."""

    texts: list[str] = field(default_factory=list)

    def add(self, values_N: np.ndarray, kind: str) -> dict[str, Any]:
        """Keeps the values as `kind` (f4, u1, u2, u4, i4) and returns what the page needs to find them.

        Raises InputError for values that the kind does not hold.
        """
        packed = np.ascontiguousarray(values_N, dtype=np.dtype(_KINDS[kind]).newbyteorder("<")).ravel()
        if kind != "f4" and not np.array_equal(packed, np.ravel(values_N)):
            raise InputError(f"a column of {kind} holds whole numbers of that size; got {np.min(values_N)} to {np.max(values_N)}")
        if packed.size and (np.isnan(packed).all() if kind == "f4" else False):
            return {"constant": None, "length": packed.size}
        if packed.size and (packed == packed[0]).all():
            return {"constant": packed[0].item(), "length": packed.size}
        self.texts.append(base64.b64encode(packed.tobytes()).decode("ascii"))
        return {"block": len(self.texts) - 1, "kind": kind}

    def add_codes(self, codes_N: np.ndarray, n_values: int) -> dict[str, Any]:
        """Codes 0 to `n_values` - 1 in as few bytes as hold them; the greatest number of the kind stays free."""
        return self.add(codes_N, "u1" if n_values < 0xFF else "u2" if n_values < 0xFFFF else "u4")


def as_numbers(estimate: Estimate | None) -> list[float] | None:
    """Mean, low and high as the page reads an estimate."""
    return None if estimate is None else [estimate.mean, estimate.low, estimate.high]


def as_script_json(value: Any) -> str:
    """`value` as JSON of ASCII letters that stands inside a script element and can neither end it nor open a comment.

    Numbers that are not finite become null.
    """
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    # These stand only inside strings of JSON, where the escape means the same letter.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
