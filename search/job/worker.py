"""What a worker does with one unit: solve its sequences and write its parts. The same in every pool.

Knows the engine and the run's files, not who sent the unit. A Python exception in a unit becomes a UnitFailure, so that
one unit's fault costs no other.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.allocator import keep_freed_memory
from duo_oracle.oracle.base.disk import disk_fault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.records import OraclePaths, PatternLosses, Trials
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.records import UnitRecord
from duo_oracle.search.job.pool import Unit, UnitFailure
from duo_oracle.search.job.problem import Keep, Problem
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.job.tally import Found

Solve = Callable[[OracleModel, list[Window], Problem, "UnitSink"], None]


@dataclass(frozen=True)
class Job:
    """What all units of a run share, besides the model's weights."""

    directory: str  # absolute
    run_id: str
    problem: Problem
    solve: Solve
    dtype: str
    device: str
    route_layers: str | None  # as load_model takes them
    threads: int
    texts: tuple[str, ...] | None  # how each token id reads
    elsewhere: bool = False  # `directory` is no run, but where parts wait to be sent to it


class UnitSink:
    """Takes what the engine finds, in any order of its sequences, to the unit's files."""

    def __init__(self, writer: UnitWriter, found: Found | None = None) -> None:
        self._writer, self._found = writer, found

    def found(self, n_rows: int) -> None:
        """Passed on to whoever shows how far the search is."""
        if self._found is not None:
            self._found(n_rows)

    def paths(self, sequence: Window, paths: OraclePaths) -> None:
        """The oracle paths of one whole sequence."""
        mask_NL = sequence.mask_NL if isinstance(sequence, RoutedSequence) else None
        token_ids, warm_ids = sequence.token_ids[sequence.n_warm :], sequence.token_ids[sequence.n_front : sequence.n_warm]
        self._writer.add_sequence(sequence.index, sequence.document, token_ids, paths, mask_NL, warm_ids, sequence.reference)

    def losses(self, sequence: Window, block: PatternLosses) -> None:
        """A block of every-pattern losses of one sequence."""
        self._writer.add_losses(sequence.index, block)

    def trials(self, sequence: Window, trials: Trials) -> None:
        """Some trials of one sequence, in the order in which they were asked for."""
        self._writer.add_trials(sequence.index, trials)


def prepare_worker(threads: int) -> None:
    """Settings of a process that will solve units: its share of the cores, no pages given back between calls, and float32 that is
    float32 on a GPU too, for the head decides between nearly equal patterns."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    keep_freed_memory()


@contextmanager
def prepared(threads: int) -> Iterator[None]:
    """The same for as long as the block lasts: afterwards the process has its own again."""
    threads_before, precision_before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    prepare_worker(threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_float32_matmul_precision(precision_before)


def solve_unit(job: Job, model: OracleModel, unit: Unit, found: Found | None = None) -> UnitRecord | UnitFailure:
    """Solves the unit and writes its parts. Its rows depend on the unit, the model and the problem alone.

    `found` is told how far it is.
    """
    problem = job.problem
    keep = None if problem.keep is Keep.NONE else str(problem.keep)
    try:
        with UnitWriter(
            job.directory, job.run_id, unit.index, problem.budgets, keep, job.texts, job.elsewhere, problem.table
        ) as writer:
            job.solve(model, list(unit.sequences), problem, UnitSink(writer, found))
        return writer.record
    except Exception as error:
        reason = " ".join(str(error).split())
        if isinstance(error, InputError):  # of the weights or the text; where in the program it was seen helps nobody
            return UnitFailure(unit.index, f"{unit}: {reason}")
        return UnitFailure(unit.index, f"{unit}: {type(error).__name__}: {reason}", traceback.format_exc(), disk_fault(error))
