"""The ladder as an Arrow table with every figure, and as text and Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from duo_oracle.results.formats import aligned
from duo_oracle.results.ladder.rungs import KINDS, Line, sentences
from duo_oracle.results.statistics.intervals import ENDS, Estimate, estimate_columns, percent_text

_ESTIMATES = ("loss", "gain", "over_fixed", "below_reference", "share")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "budget", "name", "kind", "taught")),
        ("n_big", pa.float64()),
        *((f"{name}{end}", pa.float64()) for name in _ESTIMATES for end in ENDS),
        ("tokens", pa.int64()),
        ("documents", pa.int64()),
    ]
)
_HEADINGS = ("big layers", "gain over all-big [95%]", "over the best fixed", "of the way to the reference")


def as_table(lines: Sequence[Line], run_id: str) -> pa.Table:
    """One row per budget and rung, every figure a column, intervals as _low and _high, null where a figure has no meaning."""
    rows = []
    for line in lines:
        row = {
            "run_id": run_id,
            "budget": line.budget,
            "name": line.name,
            "kind": line.kind,
            "taught": line.taught,
            "n_big": line.n_big,
        }
        for name in _ESTIMATES:
            row |= estimate_columns(name, getattr(line, name))
        rows.append(row | {"tokens": line.loss.n_tokens, "documents": line.loss.n_documents})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def line_of(row: Mapping[str, Any]) -> Line:
    """The line that a row of `as_table` is of. Raises ValueError or TypeError for a row of anything else."""
    if row["kind"] not in KINDS:
        raise ValueError(f"unknown kind of rung {row['kind']!r}; one of {', '.join(KINDS)}")
    n_tokens, n_documents = int(row["tokens"]), int(row["documents"])

    def estimate(name: str) -> Estimate | None:
        if row.get(name) is None:
            return None
        ends = (row.get(f"{name}{end}") for end in ENDS)
        mean, low, high = (math.nan if value is None else float(value) for value in ends)
        return Estimate(mean, low, high, n_tokens, n_documents)

    loss, gain = estimate("loss"), estimate("gain")
    if loss is None or gain is None:
        raise ValueError("a rung has a loss and a gain")
    n_big = None if row.get("n_big") is None else float(row["n_big"])
    over, below, share = (estimate(name) for name in ("over_fixed", "below_reference", "share"))
    return Line(str(row["budget"]), str(row["name"]), row["kind"], row.get("taught"), n_big, loss, gain, over, below, share)


def as_text(lines: Sequence[Line], notes: Sequence[str] = ()) -> str:
    """A table per budget, the rungs from below, and what it says."""
    parts = []
    for budget, mine in _by_budget(lines):
        rows = [[f"budget {budget}", *_HEADINGS], *(_cells(line) for line in mine)]
        parts.append("\n".join([*aligned(rows, [False, *[True] * 4]), *sentences(mine)]))
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts) + "\n"


def markdown(lines: Sequence[Line], notes: Sequence[str] = ()) -> str:
    """The same as Markdown."""
    parts = []
    for budget, mine in _by_budget(lines):
        rows = [f"| budget {budget} | {' | '.join(_HEADINGS)} |", "|---|" + "---:|" * len(_HEADINGS)]
        rows += [f"| {' | '.join(_cells(line))} |" for line in mine]
        parts.append("\n".join([*rows, "", *(f"{text}." for text in sentences(mine))]))
    return "\n\n".join([*parts, *(f"- {note}" for note in notes)]) + "\n"


def _by_budget(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    return [(budget, [line for line in lines if line.budget == budget]) for budget in dict.fromkeys(line.budget for line in lines)]


def _cells(line: Line) -> list[str]:
    share = "-" if line.share is None else percent_text(line.share)
    over = "-" if line.over_fixed is None else str(line.over_fixed)
    return [line.name, "-" if line.n_big is None else f"{line.n_big:.2f}", str(line.gain), over, share]
