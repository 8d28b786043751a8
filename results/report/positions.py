"""A run's tokens and paths as arrays side by side, every budget's rows at the same positions. Knows nothing of pages.

Axes: N positions (by sequence, then position), K budgets in the run's order, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.sql import connect
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.sentences import read_pieces

_LOSSES = ("loss", "loss_cheapest", "loss_full", "null_gain", "excess")
_MEASURED = ("excess_difficulty", "entropy_full")
_ORDER = [("sequence", "ascending"), ("position", "ascending")]


@dataclass(frozen=True)
class Passage:
    """One sequence: its document, its rows, where in the sequence they begin, and how its tokens read (one more than rows)."""

    sequence: int
    document: int
    start: int
    length: int
    first_position: int
    pieces: list[str]


@dataclass(frozen=True)
class RunPositions:
    """Losses in nats, float32 as stored, NaN for null."""

    run: StoredRun
    documents: tuple[str, ...]
    passages: tuple[Passage, ...]
    sequence_N: np.ndarray
    position_N: np.ndarray
    document_N: np.ndarray
    """The number of its document."""
    pattern_KN: list[list[str]]
    values_KN: dict[str, list[np.ndarray]]
    evaluations_KN: list[np.ndarray]
    certified_KN: list[np.ndarray]
    class_KN: list[list[str]]

    @property
    def n_positions(self) -> int:
        return len(self.sequence_N)


def read_run(run: StoredRun) -> RunPositions:
    """The run's tables. Raises InputError for a run without a finished unit, or with a position that a budget has no path for."""
    tokens = run.dataset("tokens").to_table(columns=["sequence", "position", "document"]).sort_by(_ORDER)
    if not tokens.num_rows:
        raise InputError(f"{run.path} has no finished unit yet")
    sequence_N, position_N = tokens["sequence"].to_numpy(), tokens["position"].to_numpy()
    codes = tokens["document"].combine_chunks().dictionary_encode()
    document_N = codes.indices.to_numpy()
    paths = run.dataset("paths").to_table()
    pattern_KN, evaluations_KN, certified_KN = [], [], []
    values_KN: dict[str, list[np.ndarray]] = {name: [] for name in _LOSSES}
    for text in run.budgets:
        rows = paths.filter(pc.equal(paths["budget"], text)).sort_by(_ORDER)
        same = rows.num_rows == len(sequence_N) and np.array_equal(rows["sequence"].to_numpy(), sequence_N)
        if not same or not np.array_equal(rows["position"].to_numpy(), position_N):
            raise InputError(
                f"a report shows every position under every budget; {run.path} has {rows.num_rows:,} paths under budget {text} "
                f"for {len(sequence_N):,} positions"
            )
        pattern_KN.append(rows["pattern"].to_pylist())
        for name in _LOSSES:
            values_KN[name].append(rows[name].to_numpy(zero_copy_only=False).astype(np.float32))
        evaluations_KN.append(rows["evaluations"].to_numpy())
        certified_KN.append(rows["certified"].to_numpy(zero_copy_only=False))
    class_KN, measured_KN = _measures(run)
    return RunPositions(
        run=run,
        documents=tuple(codes.dictionary.to_pylist()),
        passages=_passages(run, sequence_N, position_N, document_N),
        sequence_N=sequence_N,
        position_N=position_N,
        document_N=document_N,
        pattern_KN=pattern_KN,
        values_KN=values_KN | measured_KN,
        evaluations_KN=evaluations_KN,
        certified_KN=certified_KN,
        class_KN=class_KN,
    )


def _measures(run: StoredRun) -> tuple[list[list[str]], dict[str, list[np.ndarray]]]:
    """Each budget's classes of tokens, and what else the view of measures has."""
    class_KN: list[list[str]] = []
    values_KN: dict[str, list[np.ndarray]] = {name: [] for name in _MEASURED}
    connection = connect([run])
    try:
        for text in run.budgets:
            rows = connection.sql(
                f"SELECT class, {', '.join(_MEASURED)} FROM measures WHERE budget = ? ORDER BY sequence, position",
                params=[text],
            ).to_arrow_table()
            class_KN.append(rows["class"].to_pylist())
            for name in _MEASURED:
                values_KN[name].append(rows[name].to_numpy(zero_copy_only=False).astype(np.float32))
    finally:
        connection.close()
    return class_KN, values_KN


def _passages(run: StoredRun, sequence_N: np.ndarray, position_N: np.ndarray, document_N: np.ndarray) -> tuple[Passage, ...]:
    sequences, starts, lengths = np.unique(sequence_N, return_index=True, return_counts=True)
    pieces = read_pieces(run, sequences.tolist())
    return tuple(
        Passage(sequence, int(document_N[start]), start, length, int(position_N[start]), pieces[sequence])
        for sequence, start, length in zip(sequences.tolist(), starts.tolist(), lengths.tolist(), strict=True)
    )
