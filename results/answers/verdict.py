"""What a run's excess says, in one sentence: the one place that says it, for summaries, tables, pages and the report.

An excess above zero says that all-big is not the truth on this text. It shows where nothing is chosen as well, by the cheapest
pattern: an overconfident model loses less by anything that makes it doubt. Only what the oracle's excess has beyond that, paired
token by token, is of choosing. With several budgets the verdicts are corrected for their number (Benjamini and Hochberg, 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from duo_oracle.results.statistics.intervals import Estimate, student_tail

RATE = 0.05
"""The share of false discoveries among several budgets that is allowed."""


class Kind(StrEnum):
    """What is said of a gain."""

    EVIDENCE = "evidence"
    NO_EVIDENCE = "no evidence"
    UNKNOWN = "unknown"


class Excess(Protocol):
    """What a verdict is of: a budget's means, as `curve.BudgetLine` has them."""

    @property
    def budget(self) -> str: ...
    @property
    def gain(self) -> Estimate: ...
    @property
    def null_gain(self) -> Estimate | None: ...
    @property
    def excess(self) -> Estimate | None: ...
    @property
    def control(self) -> Estimate | None: ...
    @property
    def beyond(self) -> Estimate | None: ...


@dataclass(frozen=True)
class Verdict:
    """The sentence, and its kind. `budget` is the one that it is of; `found` those that stand after correction for their number."""

    kind: Kind
    text: str
    budget: str
    found: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


def verdict(lines: Sequence[Excess]) -> Verdict:
    """Of one budget or several of the same tokens: of those whose excess stands beyond the control; where none does, of all.

    The sentence is of budget any where it is among them, else of the one of the greatest difference, or of the greatest gain: where
    nothing is chosen the excess is often greatest, and is its own control.
    """
    standing = [line for line, stands in zip(lines, _standing(lines), strict=True) if stands]
    found = tuple(line.budget for line in standing)
    line = next((line for line in standing or lines if line.budget == "any"), None)
    line = line or (max(standing, key=_beyond) if standing else max(lines, key=lambda line: (line.gain.mean, _height(line))))
    kind, text = _said(line, line.budget in found)
    if len(lines) > 1 and kind is not Kind.UNKNOWN:
        text = f"{text.removesuffix('.')}, {_which(line, found)}. {_others(lines, found)}"
    return Verdict(kind, text, line.budget, found)


def _beyond(line: Excess) -> float:
    return -np.inf if line.beyond is None else line.beyond.mean


def _height(line: Excess) -> float:
    return -np.inf if line.excess is None else line.excess.mean


def _said(line: Excess, stands: bool) -> tuple[Kind, str]:
    gain = line.gain
    if line.null_gain is None or line.excess is None:
        return Kind.UNKNOWN, (
            f"Nothing is known of better-spent compute: no labels were drawn, so how much of the gain of {gain.mean:.3f} nats is "
            "selection bias is not told (search with `null_draws=4`)."
        )
    rest = f"the remaining {line.excess.mean:.3f}"
    if 0 <= line.null_gain.mean <= gain.mean > 0:
        share = f"{line.null_gain.mean:.3f} ({line.null_gain.mean / gain.mean:.0%})"
        bias = f"gain {gain.mean:.3f} nats, of which {share} is selection bias"
    else:  # no part of it
        bias = f"gain {gain.mean:.3f} nats, where selection bias alone shows {line.null_gain.mean:.3f}"
        rest = f"the excess, {line.excess.mean:.3f},"
    if line.beyond is None or line.control is None or line.excess.n_documents < 2:
        return Kind.UNKNOWN, f"Nothing is known of better-spent compute: {bias}; {rest} has no interval, of one document."
    nothing = f"the {line.control.mean:.3f} shown where nothing is chosen"
    interval = f"[{line.beyond.low:.3f}, {line.beyond.high:.3f}]"
    if line.excess.sign <= 0:
        return Kind.NO_EVIDENCE, f"No evidence of better-spent compute: {bias}; {rest} is not above zero, {_interval(line.excess)}."
    if stands and line.beyond.sign > 0:
        return Kind.EVIDENCE, (
            f"Evidence of better-spent compute: {bias}; {rest} is more than {nothing}, by {line.beyond.mean:.3f} {interval}."
        )
    than = "less than" if line.beyond.mean < 0 else "not more than can be told from"
    return Kind.NO_EVIDENCE, (
        f"No evidence of better-spent compute: {bias}; {rest} is {than} {nothing} (difference {line.beyond.mean:.3f} {interval})."
    )


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _which(line: Excess, found: Sequence[str]) -> str:
    if line.budget == "any" or found == (line.budget,):
        return f"at budget {line.budget}"
    return f"at budget {line.budget}, of the greatest {'difference' if found else 'gain'}"


def _others(lines: Sequence[Excess], found: Sequence[str]) -> str:
    where = "at none" if not found else f"at {', '.join(found)}"
    return f"Of {len(lines)} budgets, corrected for their number, the excess is above the one where nothing is chosen {where}."


def _standing(lines: Sequence[Excess]) -> list[bool]:
    """Which differences are above zero, with at most `RATE` of them false."""
    return discoveries([_p_value(line.beyond) if _is_above(line) else 1.0 for line in lines])


def _is_above(line: Excess) -> bool:
    """Whether both the excess and its difference from the control are above zero by their own intervals."""
    return line.excess is not None and line.beyond is not None and line.excess.sign > 0 and line.beyond.sign > 0


def _p_value(estimate: Estimate | None) -> float:
    if estimate is None or not estimate.error > 0:
        return 1.0
    return 2 * student_tail(abs(estimate.mean) / estimate.error, max(1, estimate.n_documents - 1))


def discoveries(p_values: Sequence[float], rate: float = RATE) -> list[bool]:
    """Which of several statements stand, by Benjamini and Hochberg's step-up rule: at most `rate` of those that do are false.

    >>> discoveries([0.01, 0.04, 0.5])
    [True, False, False]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    passes = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    stands = np.zeros(len(p), dtype=bool)
    stands[order[: passes[-1] + 1 if len(passes) else 0]] = True
    return stands.tolist()
