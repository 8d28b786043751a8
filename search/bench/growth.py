"""How the time and memory of an exact search grow: with layers, branches, context, vocabulary and tokens, one at a time.

Random Duo-LLMs of one hidden size; every row searches a few positions in the context `full` under all exact budgets. Processor
time, so that a busy machine shows about what a quiet one would; peak memory is the process's own, where the system tells it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from duo_oracle.models.duo_llm.packed import PackedDuoLlama
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.search.bench.subject import random_module

if TYPE_CHECKING:
    from duo_oracle.results.drawing import Picture

_MEMORY = 256 << 20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class GrowthRow:
    """One search: `what` grew, to `value`; the patterns of a token, processor milliseconds a token, peak MiB of the process."""

    what: str
    value: str
    patterns: int
    ms_per_token: float
    peak_mib: float | None


@dataclass(frozen=True)
class _Case:
    what: str = ""
    value: str = ""
    n_layers: int = 12
    branches: str = "sB"
    context: int = 64
    vocabulary: int = 4096
    tokens: int = 8


def _cases(most_layers: int) -> Iterator[_Case]:
    base = _Case(n_layers=min(12, most_layers))
    for n in range(8, most_layers + 1, 2):
        yield replace(base, what="layers of sB", value=str(n), n_layers=n)
    for n in range(4, min(most_layers, 10) + 1, 2):
        yield replace(base, what="layers of .sB", value=str(n), n_layers=n, branches=".sB")
    for n in (16, 64, 256, 1024):
        yield replace(base, what="tokens of context", value=str(n), context=n)
    for n in (1024, 4096, 16384, 49152):
        yield replace(base, what="vocabulary", value=str(n), vocabulary=n)
    for n in (4, 16, 64):
        yield replace(base, what="tokens searched", value=str(n), n_layers=min(10, most_layers), tokens=n)


def grown(hidden: int, most_layers: int = 14, seed: int = 0) -> tuple[GrowthRow, ...]:
    """Measures every row; under `--memory 256MiB`, so that the bound is seen to hold."""
    cases = list(_cases(most_layers))
    with progress(total=len(cases), desc="growth", unit="row") as bar:
        rows = []
        for case in cases:
            rows.append(_row(case, hidden, seed))
            bar.update()
    return tuple(rows)


def _row(case: _Case, hidden: int, seed: int) -> GrowthRow:
    model = PackedDuoLlama(random_module(case.n_layers, hidden, case.vocabulary, case.context + case.tokens + 1, seed))
    branches = parse_branches(case.branches)
    oracle = ExactOracle(
        model, branches, parse_budgets(f"0-{case.n_layers}", case.n_layers), SkipReading.FFN, NullLabels(), memory_bytes=_MEMORY
    )
    full = RoutingPattern.uniform(Branch.BIG, case.n_layers)
    token_id_T = torch.randint(0, case.vocabulary, (case.context + case.tokens + 1,))
    oracle.in_fixed_context(0, token_id_T[: case.context + 2], full, case.context)  # a first time: plans and buffers are made
    _forget_peak()
    started = time.process_time()
    oracle.in_fixed_context(0, token_id_T, full, case.context)
    seconds = time.process_time() - started
    return GrowthRow(case.what, case.value, len(branches) ** case.n_layers, 1000 * seconds / case.tokens, _peak_mib())


def _forget_peak() -> None:
    with suppress(OSError):  # no Linux, or not allowed: the peak is then that of the process's whole life
        _CLEAR.write_text("5")


def _peak_mib() -> float | None:
    try:
        (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        return None


def growth_text(rows: Sequence[GrowthRow]) -> str:
    """The rows for people, each growth a block."""
    lines = [f"{'grows':<18}{'to':>7}  {'patterns':>9}  {'CPU ms a token':>14}  {'us a pattern':>12}  {'peak MiB':>8}"]
    before = ""
    for row in rows:
        peak = "-" if row.peak_mib is None else f"{row.peak_mib:,.0f}"
        what = "" if row.what == before else row.what
        each = 1000 * row.ms_per_token / row.patterns
        lines.append(f"{what:<18}{row.value:>7}  {row.patterns:>9,}  {row.ms_per_token:>14.2f}  {each:>12.2f}  {peak:>8}")
        before = row.what
    return "\n".join(lines)


def draw_growth(rows: Sequence[GrowthRow]) -> Picture:
    """A panel for each growth: processor milliseconds a token over what grows, on one logarithmic scale; peaks of memory."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    from duo_oracle.results.colours import FIXED
    from duo_oracle.results.drawing import picture

    names = list(dict.fromkeys(row.what for row in rows))
    with picture((2.4 * len(names), 3.2)) as figure:
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axis, name in zip(axes, names, strict=True):
            mine = [row for row in rows if row.what == name]
            by_layers = name.startswith("layers")
            axis.plot([int(row.value) for row in mine], [row.ms_per_token for row in mine], marker="o", color=FIXED)
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(10, subs=(1, 3)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            if not by_layers:
                axis.set_xscale("log", base=2)
            axis.set_xticks([int(row.value) for row in mine], [row.value for row in mine], rotation=45)
            axis.minorticks_off()
            peaks = [row.peak_mib for row in mine if row.peak_mib is not None]
            memory = f"\npeak {min(peaks):,.0f}-{max(peaks):,.0f} MiB" if peaks else ""
            axis.set_title(f"{name}{memory}", fontsize=9)
            axis.set_xlabel("routed layers" if by_layers else "tokens" if name.startswith("tokens") else "entries")
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("processor ms a token")
        figure.suptitle(
            "Exact search of every token, one thread: 12 layers of sB, vocabulary 4,096, but for what grows", fontsize=10
        )
    return figure
