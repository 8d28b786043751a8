"""A run's positions in order, by sequence, then position, and what was found there under every budget: the one reader.

Every question that lays rows side by side asks here, so that row n is the same position for all of them. Whatever reads a run for
another purpose than its positions (`verify`, which trusts no reader; SQL, which keeps its own order) does not.

Axes: N positions, K budgets in the run's order, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.results.store.sentences import piece
from duo_oracle.results.store.version1 import ConvertedDataset

_KEY = ("sequence", "position")
_ORDER = [(name, "ascending") for name in _KEY]


@dataclass(frozen=True)
class Span:
    """One sequence of a run: its document, its rows among the run's positions, and the position of the first."""

    sequence: int
    document: str
    rows: slice
    first_position: int = 0

    @property
    def n_positions(self) -> int:
        return self.rows.stop - self.rows.start


def read_tokens(run: StoredRun, columns: Sequence[str] = ("document",)) -> pa.Table:
    """Sequence, position and `columns` of the tokens table, a row for each of the run's positions in their order."""
    return run.dataset("tokens").to_table(columns=[*_KEY, *columns]).sort_by(_ORDER)


def spans_of(tokens: pa.Table) -> tuple[Span, ...]:
    """The sequences of `read_tokens`, in order."""
    sequences, starts, lengths = np.unique(tokens["sequence"].to_numpy(), return_index=True, return_counts=True)
    documents, firsts = (tokens[name].take(pa.array(starts)).to_pylist() for name in ("document", "position"))
    found = zip(sequences.tolist(), documents, starts.tolist(), lengths.tolist(), firsts, strict=True)
    return tuple(
        Span(sequence, document, slice(start, start + length), first) for sequence, document, start, length, first in found
    )


def datasets_of(run: StoredRun, table: str) -> dict[int, ds.Dataset | ConvertedDataset]:
    """Where each sequence's rows of `table` are: a sequence is of one unit, so that one file is looked into for it.

    Raises InputError where the run kept none.
    """
    run.dataset(table)
    found: dict[int, ds.Dataset | ConvertedDataset] = {}
    for unit in run.manifest.units:
        sequences = pc.unique(run.dataset("tokens", unit).to_table(columns=["sequence"])["sequence"])
        found |= dict.fromkeys(sequences.to_pylist(), run.dataset(table, unit))
    return found


def read_paths(run: StoredRun, tokens: pa.Table, budgets: Sequence[str], columns: Sequence[str]) -> dict[str, pa.Table]:
    """`columns` of the paths table by budget, each with the rows of `tokens` (as `read_tokens` gives them).

    Raises InputError for a budget that was not searched, and for one that lacks the path of a position.
    """
    wanted = [str(run.budget(text)) for text in budgets]
    if not wanted:
        return {}
    paths = run.dataset("paths").to_table(columns=[*_KEY, "budget", *columns]).sort_by(_ORDER)
    found = {text: paths.filter(pc.field("budget") == text) for text in wanted}
    for text, rows in found.items():
        if not all(rows[name].equals(tokens[name]) for name in _KEY):
            raise InputError(
                f"{run.place} has {rows.num_rows:,} paths under budget {text} for {tokens.num_rows:,} positions; "
                "what lays budgets side by side needs one for each"
            )
    return found


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64, NaN for null."""
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


@dataclass(frozen=True)
class Positions:
    """Losses in nats. `null_gain_NK` is NaN where no labels were drawn."""

    budgets: tuple[str, ...]
    sequence_N: np.ndarray
    position_N: np.ndarray
    document_N: np.ndarray
    token_N: np.ndarray
    """How the token at the position reads."""
    target_N: np.ndarray
    branches_NKL: np.ndarray
    loss_NK: np.ndarray
    null_gain_NK: np.ndarray
    small_N: np.ndarray
    big_N: np.ndarray

    @property
    def n_letters(self) -> int:
        return self.branches_NKL.shape[2]

    def column(self, budget: int | str) -> int:
        """Where a budget stands. Raises InputError for one that was not searched."""
        if str(budget) not in self.budgets:
            raise InputError(f"the run was not searched under budget {budget}; available: {', '.join(self.budgets)}")
        return self.budgets.index(str(budget))

    def takes_big(self, budget: int | str) -> np.ndarray:
        """Which layers the oracle path makes big: bool, (N, L)."""
        return self.branches_NKL[:, self.column(budget)] == Branch.BIG

    @property
    def excess_NK(self) -> np.ndarray:
        """The gain over all-big minus the null gain."""
        return self.big_N[:, None] - self.loss_NK - self.null_gain_NK


def read_positions(run: StoredRun) -> Positions:
    """The run's tables as arrays. Raises InputError for a run whose positions do not all have every budget."""
    tokens = read_tokens(run, ("document", "token_id", "token", "target_id", "target"))
    paths = read_paths(run, tokens, run.budgets, ("pattern", "loss", "loss_cheapest", "loss_full", "null_gain"))
    first = paths[run.budgets[0]]
    return Positions(
        budgets=run.budgets,
        sequence_N=tokens["sequence"].to_numpy(),
        position_N=tokens["position"].to_numpy(),
        document_N=np.array(tokens["document"].to_pylist()),
        token_N=_texts(tokens, "token"),
        target_N=_texts(tokens, "target"),
        branches_NKL=np.stack([branches_of(rows["pattern"], run.table) for rows in paths.values()], axis=1),
        loss_NK=np.stack([numbers(rows["loss"]) for rows in paths.values()], axis=1),
        null_gain_NK=np.stack([numbers(rows["null_gain"]) for rows in paths.values()], axis=1),
        small_N=numbers(first["loss_cheapest"]),
        big_N=numbers(first["loss_full"]),
    )


def _texts(tokens: pa.Table, name: str) -> np.ndarray:
    return np.array(list(map(piece, tokens[name].to_pylist(), tokens[f"{name}_id"].to_pylist())), dtype=object)
