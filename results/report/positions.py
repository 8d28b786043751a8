"""A run's tokens and paths as arrays side by side, every budget's rows at the same positions. Knows nothing of pages.

Axes: N positions (by sequence, then position), K budgets in the run's order, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.sql import connect
from duo_oracle.results.store.positions import numbers, read_paths, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.sentences import read_pieces

_LOSSES = ("loss", "loss_cheapest", "loss_full", "null_gain", "excess")
_MEASURED = ("excess_difficulty", "entropy_full", "null_above")


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
    tokens = read_tokens(run)
    if not tokens.num_rows:
        raise InputError(f"{run.place} has no finished unit yet")
    codes = tokens["document"].combine_chunks().dictionary_encode()
    document_N = codes.indices.to_numpy()
    paths = read_paths(run, tokens, run.budgets, ("pattern", *_LOSSES, "evaluations", "certified")).values()
    class_KN, measured_KN = _measures(run)
    return RunPositions(
        run=run,
        documents=tuple(codes.dictionary.to_pylist()),
        passages=_passages(run, tokens, document_N),
        sequence_N=tokens["sequence"].to_numpy(),
        position_N=tokens["position"].to_numpy(),
        document_N=document_N,
        pattern_KN=[rows["pattern"].to_pylist() for rows in paths],
        values_KN={name: [numbers(rows[name]).astype(np.float32) for rows in paths] for name in _LOSSES} | measured_KN,
        evaluations_KN=[rows["evaluations"].to_numpy() for rows in paths],
        certified_KN=[rows["certified"].to_numpy(zero_copy_only=False) for rows in paths],
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


def _passages(run: StoredRun, tokens: pa.Table, document_N: np.ndarray) -> tuple[Passage, ...]:
    spans, first_N = spans_of(tokens), tokens["position"].to_numpy()
    pieces = read_pieces(run, [span.sequence for span in spans])
    return tuple(
        Passage(
            span.sequence,
            int(document_N[span.rows.start]),
            span.rows.start,
            span.n_positions,
            int(first_N[span.rows.start]),
            pieces[span.sequence],
        )
        for span in spans
    )
