"""What a bench measured: as a table, as JSON, and beside what another bench measured.

Seconds are per position unless said otherwise; ratios are within one run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.bench.growth import GrowthRow, growth_text

_SHAPE = ("n_layers", "n_hidden", "n_vocabulary", "n_patterns", "threads")


@dataclass(frozen=True)
class BenchResult:
    """Ratios and seconds of one run; `growth` where it was asked for."""

    n_layers: int
    n_hidden: int
    n_vocabulary: int
    n_patterns: int
    threads: int
    tokens_per_second: float
    naive_ratio: float
    batched_naive_ratio: float
    gemm_share: float
    certified_head_share: float
    leaves_per_token: float
    null_draws_ratio: float
    reference_ratio: float
    tree_full_head_ratio: float
    workers_2_speedup: float | None = None
    ray_overhead: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    growth: tuple[GrowthRow, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        rows = [
            ("tokens per second, one worker", f"{self.tokens_per_second:.1f}", ""),
            ("faster than the naive way (naive_ratio)", f"{self.naive_ratio:.0f}x", ">= 500x"),
            ("faster than the batched naive way (batched_naive_ratio)", f"{self.batched_naive_ratio:.1f}x", ">= 8x"),
            ("faster than the tree with the full head (tree_full_head_ratio)", f"{self.tree_full_head_ratio:.2f}x", ""),
            ("layers' share of the machine's GEMM rate (gemm_share)", f"{self.gemm_share:.0%}", ">= 70%"),
            ("certified head's share of the full head's time (certified_head_share)", f"{self.certified_head_share:.1%}", "<= 5%"),
            (f"leaves evaluated of {self.n_patterns} (leaves_per_token)", f"{self.leaves_per_token:.1f}", ""),
            ("time with 4 null draws against none (null_draws_ratio)", f"{self.null_draws_ratio:.2f}x", "<= 1.25x"),
            ("CPU time with a reference against none (reference_ratio)", f"{self.reference_ratio:.2f}x", "<= 1.15x"),
        ]
        if self.workers_2_speedup is not None:
            rows.append(("two one-thread workers against one (workers_2_speedup)", f"{self.workers_2_speedup:.2f}x", ">= 1.9x"))
        if self.ray_overhead is not None:
            job = self.seconds["local_job"]
            rows.append((f"what Ray adds to a job of {job:.0f} s (ray_overhead)", f"{self.ray_overhead:.1%}", "<= 5%"))
        head = (
            f"{self.n_layers} layers, hidden {self.n_hidden}, vocabulary {self.n_vocabulary}, "
            f"{self.n_patterns} patterns a position, {self.threads} thread(s), context full"
        )
        width = max(len(name) for name, _, _ in rows)
        lines = [head, *(f"  {name:<{width}}  {value:>9}  {goal}".rstrip() for name, value, goal in rows)]
        return "\n".join([*lines, *(["", growth_text(self.growth)] if self.growth else [])])


def read_result(file: str) -> BenchResult:
    """What `duo-oracle bench --format json` wrote. Raises InputError for a file that is none."""
    try:
        found = json.loads(Path(file).read_bytes())
        found = found.get("bench", found)  # with pairs, where that bench was held beside a third
        rows = tuple(GrowthRow(**row) for row in found.pop("growth", ()))
        given = {name: found[name] for name in (field.name for field in fields(BenchResult)) if name in found}
        result = BenchResult(**given, growth=rows)
        list(_measured(result))
        return result
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise InputError(f"{file} is not what `duo-oracle bench --format json` writes") from None


def _measured(result: BenchResult) -> Iterator[tuple[str, float]]:
    """Every number of a result under its name; those of shape and those not measured left out."""
    for name, value in asdict(result).items():
        if name not in (*_SHAPE, "seconds", "growth") and value is not None:
            yield name, float(value)
    for name, value in result.seconds.items():
        yield f"seconds: {name}", float(value)
    for row in result.growth:
        yield f"growth: {row.what} {row.value}, CPU ms a token", float(row.ms_per_token)


def beside(mine: BenchResult, other: BenchResult) -> list[dict[str, Any]]:
    """Pair by pair what both measured: name, this run, the other, ratio. Raises InputError for benches of other shapes."""
    for name in _SHAPE:
        if getattr(mine, name) != getattr(other, name):
            raise InputError(
                f"two benches of one shape are compared; {name} is {getattr(mine, name)} here and {getattr(other, name)} there"
            )
    theirs = dict(_measured(other))
    return [
        {"name": name, "this": value, "other": theirs[name], "ratio": value / theirs[name] if theirs[name] else None}
        for name, value in _measured(mine)
        if name in theirs
    ]


def beside_text(rows: list[dict[str, Any]], file: str) -> str:
    """The pairs for people."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"beside {file} (ratio: this over that)", f"  {'':<{width}}  {'this':>9}  {'that':>9}  {'ratio':>6}"]
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"  {row['name']:<{width}}  {row['this']:>9.4g}  {row['other']:>9.4g}  {ratio:>6}")
    return "\n".join(lines)
