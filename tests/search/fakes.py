"""Solvers that stand in for the engine, so that the driver and the pools are tested alone and their faults at will.

Module-level functions, because a Ray worker finds them by name.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.records import OraclePaths
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.worker import UnitSink

MARK = "DUO_ORACLE_TEST_MARK"
NODE = "DUO_ORACLE_TEST_NODE"


def paths_of(sequence: Window, problem: Problem) -> OraclePaths:
    """Rows that follow from the sequence's tokens and the seed alone."""
    n_budgets, n_letters = len(problem.budgets), problem.n_letters
    n_rows = sequence.n_positions * n_budgets
    position_R = np.repeat(np.arange(sequence.n_positions, dtype=np.int32), n_budgets)
    generator = np.random.default_rng([problem.seed, sequence.index, *sequence.token_ids.tolist()])
    loss_R = generator.random(n_rows)
    return OraclePaths(
        position_R=position_R,
        budget_R=np.tile(np.arange(n_budgets, dtype=np.int16), sequence.n_positions),
        branches_RL=generator.integers(1, 3, size=(n_rows, n_letters), dtype=np.uint8),
        loss_R=loss_R,
        loss_cheapest_R=loss_R + 1,
        loss_full_R=loss_R + 0.5,
        evaluations_R=np.full(n_rows, 1, dtype=np.int32),
        certified_R=np.zeros(n_rows, dtype=bool),
        null_gain_R=np.full(n_rows, np.nan),
        null_difficulty_R=np.full(n_rows, np.nan),
        null_above_R=np.full(n_rows, np.nan),
        entropy_full_R=np.full(n_rows, np.nan),
        leaves_R=np.full(n_rows, 1, dtype=np.int32),
    )


def solves(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    for sequence in sequences:
        sink.paths(sequence, paths_of(sequence, problem))


def solves_slowly(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    time.sleep(0.15)
    solves(model, sequences, problem, sink)


def tells_slowly(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    """Says after each sequence how far it is, more than a worker's second apart."""
    for sequence in sequences:
        time.sleep(1.1)
        sink.found(sequence.n_positions * len(problem.budgets))
    solves(model, sequences, problem, sink)


def solves_slowly_and_signs(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    """Writes down on which node it is solved, as the node's environment calls it. From sequence 20 on it waits for `added`."""
    mark = Path(os.environ[MARK])
    with mark.open("a") as file:
        file.write(os.environ.get(NODE, "head") + "\n")
    deadline = time.monotonic() + 60
    while sequences[0].index >= 20 and "added" not in mark.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    solves_slowly(model, sequences, problem, sink)


def fails_on_sequence_2(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    solves(model, sequences, problem, sink)
    if any(sequence.index == 2 for sequence in sequences):
        raise ArithmeticError("sequence 2 is one too many")


def dies_once_on_sequence_2(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    """Kills its process at the first try; the environment names the file that remembers it."""
    mark = Path(os.environ[MARK])
    if any(sequence.index == 2 for sequence in sequences) and not mark.exists():
        mark.touch()
        os._exit(1)
    solves_slowly(model, sequences, problem, sink)


def is_interrupted(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    if sequences[0].index:
        raise KeyboardInterrupt
    solves(model, sequences, problem, sink)


def has_every_trouble(model: OracleModel, sequences: list[Window], problem: Problem, sink: UnitSink) -> None:
    """Raises on sequence 2, kills its worker on sequence 4 each time, and writes down which files its worker imports."""
    from duo_oracle import models, oracle, results, search

    Path(os.environ[MARK]).write_text("\n".join(str(package.__file__) for package in (oracle, models, results, search)))
    if any(sequence.index == 4 for sequence in sequences):
        os._exit(1)
    fails_on_sequence_2(model, sequences, problem, sink)
