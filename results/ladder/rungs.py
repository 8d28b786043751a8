"""The rungs of a ladder and what they gain: pure statistics over losses on the real labels; knows no model.

Axes: N tokens, L routed layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duo_oracle.results.compare.plane import share_of
from duo_oracle.results.statistics.intervals import Estimate, bootstrap, paired

KINDS = (
    "random",
    "shuffled",
    "previous",
    "fixed",
    "router",
    "layer probe",
    "probe",
    "additive",
    "reference",
    "excess",
    "hindsight",
)
"""From the choice that knows nothing to the one that saw the label."""


@dataclass(frozen=True)
class Rung:
    """One way to choose, at every token: its loss on the real label, and how many B's it took."""

    name: str
    kind: str  # one of KINDS
    loss_N: np.ndarray
    n_big_N: np.ndarray  # NaN where no pattern was taken
    taught: str | None = None  # expected, real: what losses it learnt from


@dataclass(frozen=True)
class Ladder:
    """The rungs of one budget, on the same tokens."""

    budget: str
    document_N: np.ndarray
    loss_full_N: np.ndarray
    rungs: tuple[Rung, ...]

    def of(self, kind: str) -> Rung | None:
        """The first rung of a kind; None where there is none."""
        return next((rung for rung in self.rungs if rung.kind == kind), None)


@dataclass(frozen=True)
class Line:
    """A rung's figures, in nats per token."""

    budget: str
    name: str
    kind: str
    taught: str | None
    n_big: float | None
    loss: Estimate
    gain: Estimate  # over the full model
    over_fixed: Estimate | None  # over the best fixed pattern; None for that itself
    below_reference: Estimate | None  # what the reference's choice gains more; None without one, and for itself
    share: Estimate | None  # (rung - fixed) / (reference - fixed); None where the reference is not above fixed


def lines_of(ladder: Ladder) -> list[Line]:
    """A line for every rung, from below: kinds in their order, and as they were given within one."""
    fixed, reference = ladder.of("fixed"), ladder.of("reference")
    ordered = sorted(ladder.rungs, key=lambda rung: KINDS.index(rung.kind))
    return [_line(ladder, rung, fixed, reference) for rung in ordered]


def _line(ladder: Ladder, rung: Rung, fixed: Rung | None, reference: Rung | None) -> Line:
    document_N = ladder.document_N
    loss, gain = bootstrap(np.stack([rung.loss_N, ladder.loss_full_N - rung.loss_N], axis=1), document_N)
    over_fixed = below = share = None
    if fixed is not None and rung is not fixed:
        over_fixed = paired(fixed.loss_N, rung.loss_N, document_N)
    if reference is not None and rung is not reference:
        below = paired(rung.loss_N, reference.loss_N, document_N)
    if fixed is not None and reference is not None and rung not in (fixed, reference):
        share = share_of(fixed.loss_N - rung.loss_N, fixed.loss_N - reference.loss_N, document_N)
    n_big = None if np.isnan(rung.n_big_N).any() else float(rung.n_big_N.mean())
    return Line(ladder.budget, rung.name, rung.kind, rung.taught, n_big, loss, gain, over_fixed, below, share)


def sentences(lines: Sequence[Line]) -> list[str]:
    """What a budget's lines say: how far each probe comes on the way from the best fixed pattern to the reference."""
    by_kind = {kind: [line for line in lines if line.kind == kind] for kind in KINDS}
    where = f"budget {lines[0].budget}"
    said = []
    if by_kind["reference"]:
        (reference,) = by_kind["reference"]
        over = reference.over_fixed
        if over is not None and over.sign > 0:
            said.append(f"{where}: who knows what the reference knows gains {over} nats over the best fixed pattern")
        elif over is not None:
            said.append(f"{where}: no gain over the best fixed pattern is shown for who knows what the reference knows: {over}")
    best = [max(by_kind[kind], key=lambda line: line.gain.mean) for kind in ("layer probe", "probe") if by_kind[kind]]
    for line in best:
        if line.over_fixed is None:
            continue
        if line.over_fixed.sign > 0:
            share = "" if line.share is None else f", {line.share.mean:.0%} of the way to the reference"
            said.append(f"{where}: {line.name} gains {line.over_fixed} over it{share}")
        else:
            said.append(f"{where}: {line.name} is not shown to gain over it: {line.over_fixed}")
    return said
