"""The joint oracle of a run's windows: begun with what the committed run chose, under its budget in sum, into its table `joint`.

A committed run decides token by token, each as if none came after it; here all tokens of a window share one budget and one sum. The
objective is the run's: real labels, or what its reference expects. Knows no answer that is made of the table.

Axes: N scored positions, L letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.joint import JointProblem
from duo_oracle.oracle.model import token_ids_on
from duo_oracle.oracle.patterns import Branch, branch_counts, to_strings
from duo_oracle.results.store.beside import GrowingTable
from duo_oracle.results.store.positions import read_paths, read_tokens, spans_of
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.search.job.problem import Objective
from duo_oracle.search.rerun.growing import grow
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.references import with_reference

MOST_LEAVES = 1 << 14
"""A beam scores every pattern of every prefix that it holds: beyond so many patterns a token takes minutes."""


@dataclass(frozen=True)
class Asked:
    """One question: a budget of the run, and how many prefixes a beam over tokens holds, 0 for none."""

    budget: str
    width: int

    @property
    def name(self) -> str:
        """Of the file that answers it."""
        return f"budget-{self.budget.replace(':', '-')}-width-{self.width}"


def solve_joint(opened: OpenedRun, asked: Asked, max_sequences: int | None = None) -> GrowingTable:
    """The table `joint` of this question, for the run's first `max_sequences` windows (default all).

    Windows that its file holds are not solved again; the file is saved every half minute, at the end, and when stopped. Raises
    InputError for a run in another context than committed, for a beam over too many patterns, and where the run's reference,
    which is its objective, cannot be asked again.
    """
    run, problem = opened.run, opened.problem
    run.check_letters("the joint oracle")
    if run.parsed_context.kind is not ContextKind.COMMITTED:
        raise InputError(f"the joint oracle begins with what a committed run chose; {run.place} has the context {run.context}")
    if asked.width and len(problem.branches) ** run.n_letters > MOST_LEAVES:
        raise InputError(
            f"`width={asked.width}` scores all {len(problem.branches) ** run.n_letters:,} patterns of every prefix, and takes at "
            f"most {MOST_LEAVES:,}; leave it at 0"
        )
    table = GrowingTable(run, "joint", asked.name)
    windows = opened.sequences[:max_sequences]
    chosen = _chosen(opened, asked.budget)
    grow(
        table,
        windows,
        lambda window: _of_window(opened, asked, window, chosen[window.index]),
        "joint",
        partial(_with_targets, opened),
        lambda window: window.n_positions,
    )
    return table


def by_reference(opened: OpenedRun) -> bool:
    """Whether the run committed what its reference chose."""
    return opened.run.identity.get("objective") == Objective.REFERENCE


def _with_targets(opened: OpenedRun, windows: list[Window]) -> Iterator[Window]:
    """The windows, with their reference where that is the run's objective."""
    yield from with_reference(opened, windows) if by_reference(opened) else windows


def _chosen(opened: OpenedRun, budget: str) -> dict[int, np.ndarray]:
    """What the run committed of every window: mask_NL by the window's number."""
    tokens = read_tokens(opened.run)
    column = "ref_pattern" if by_reference(opened) else "pattern"
    (rows,) = read_paths(opened.run, tokens, (budget,), (column,)).values()
    mask_NL = branches_of(rows[column])
    return {span.sequence: mask_NL[span.rows] for span in spans_of(tokens)}


def _of_window(opened: OpenedRun, asked: Asked, window: Window, mask_NL: np.ndarray) -> dict[str, np.ndarray | pa.Array]:
    run, n = opened.run, window.n_positions
    low, high = (n * bound for bound in run.budget(asked.budget).bounds(run.n_letters))
    token_id_T = token_ids_on(opened.model.device, window.token_ids)
    of_labels = JointProblem(opened.model, token_id_T, opened.problem.branches, low, high, opened.problem.skip, window.n_warm)
    problem = replace(of_labels, reference=window.reference)
    committed = problem.route(mask_NL)
    found = problem.descend(committed)
    if asked.width:
        wide = problem.descend(problem.beam(committed, asked.width))
        found = min(found, wide, key=lambda route: route.loss_N.sum())
    full_NL = np.full_like(mask_NL, Branch.BIG)
    masks = {"": found.mask_NL, "_committed": mask_NL, "_full": full_NL}
    columns: dict[str, np.ndarray | pa.Array] = {
        "sequence": np.full(n, window.index, np.int32),
        "position": np.arange(window.first_position, window.first_position + n, dtype=np.int32),
        "budget": pa.repeat(pa.scalar(asked.budget), n),
        "width": np.full(n, asked.width, np.int32),
        "pattern": pa.array(to_strings(found.mask_NL)),
        "cost": branch_counts(found.mask_NL, Branch.BIG),
        "pattern_committed": pa.array(to_strings(mask_NL)),
        "cost_committed": branch_counts(mask_NL, Branch.BIG),
    }
    for of, mask in masks.items():
        columns[f"loss{of}"] = of_labels.route(mask).loss_N
        columns[f"expected{of}"] = pa.nulls(n) if window.reference is None else problem.route(mask).loss_N
    return columns
