"""The price of looking one token ahead, from a run's table `joint`: the committed run beside the best routes of whole windows.

Axes: D documents, M measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.answers.controls import Cell, Section
from duo_oracle.results.sql import query
from duo_oracle.results.statistics.intervals import Estimate, bootstrap
from duo_oracle.results.store.reader import StoredRun

_LOSSES = ("loss_full", "loss_committed", "loss")


@dataclass(frozen=True)
class JointGap:
    """Means over tokens of one budget and width, in nats; differences are paired by token."""

    budget: str
    width: int
    full: Estimate
    committed: Estimate
    joint: Estimate
    gain_committed: Estimate  # full - committed
    gain_joint: Estimate  # full - joint
    gap: Estimate  # committed - joint
    changed: Estimate  # share of tokens whose pattern is another


@dataclass(frozen=True)
class JointGaps:
    """On real labels; and, of a run that committed its reference's choices, as that expects the losses."""

    loss: JointGap
    expected: JointGap | None


def joint_gap(run: StoredRun, budget: str, width: int) -> JointGaps:
    """The answer from the run's table. Raises InputError where it has no routes of this budget and width."""
    names = ", ".join((*_LOSSES, *(name.replace("loss", "expected") for name in _LOSSES)))
    table = query(
        [run],
        f"""SELECT document, {names}, (joint.pattern <> pattern_committed)::INT AS changed
        FROM joint JOIN tokens USING (run, sequence, position)
        WHERE budget = '{run.budget(budget)}' AND width = {int(width)} ORDER BY sequence, position""",
    )
    if not table.num_rows:
        raise InputError(f"{run.place} has no joint routes under budget {budget}; `duo-oracle joint` finds them")
    document_N = np.array(table["document"].to_pylist())

    def gap(of: str) -> JointGap:
        full_N, committed_N, joint_N = (table[name.replace("loss", of)].to_numpy() for name in _LOSSES)
        values = [full_N, committed_N, joint_N, full_N - committed_N, full_N - joint_N, committed_N - joint_N]
        columns = np.stack([*values, table["changed"].to_numpy().astype(np.float64)], axis=1)
        return JointGap(budget, width, *bootstrap(columns, document_N))

    return JointGaps(gap("loss"), gap("expected") if table["expected"].null_count == 0 else None)


def joint_sections(found: JointGaps) -> list[Section]:
    """The answer as a table."""
    columns = ("", "full", "committed", "joint", "gain committed", "gain joint", "joint over committed")
    pairs = [("real labels", found.loss), *([("as the reference expects", found.expected)] if found.expected is not None else [])]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (name, one.full, one.committed, one.joint, one.gain_committed, one.gain_joint, one.gap) for name, one in pairs
    )
    one = found.loss
    over = f"{one.gap.n_tokens:,} tokens of {one.gap.n_documents} documents"
    title = f"{over}, budget {one.budget} per token (committed) or in sum (joint): nats per token [95%]"
    aim = "what the reference expects" if found.expected is not None else "the real labels, so that selection bias grows with it"
    note = f"joint minimises {aim}; {one.changed.mean:.0%} of the tokens take another pattern than the committed run's"
    return [Section("joint", title, columns, rows, note)]
