"""The worker's side of a run: one unit's rows into Parquet parts that either are whole or are not there.

Knows tables and files, not what a unit is made of. Rows go to a file of another name, in row groups as they arrive, so
memory stays flat; at the end every file is synced and renamed. Equal rows give equal bytes: no times, hosts or process
ids inside, so a unit that is repeated replaces its parts by the same ones.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import read_json
from duo_oracle.oracle.base.whole_file import aside_of, settle
from duo_oracle.oracle.branches import DUO, BranchTable
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.records import OraclePaths, PatternLosses, Trials
from duo_oracle.oracle.reference import Reference
from duo_oracle.results.store import schemas
from duo_oracle.results.store.manifest import MANIFEST, file_sha256, part_path
from duo_oracle.results.store.records import PartRecord, UnitRecord

ROW_GROUP = 1 << 20


class UnitWriter:
    """Writes one unit's parts; a context manager. After the block `record` says what was written.

    `keep` is None, "losses" or "trials": the table kept beside tokens and paths. `texts[i]` is how token i reads, None
    where the model came without a tokenizer. `elsewhere`: the directory is no run, but where parts wait to be sent to it. An
    exception inside the block leaves no part behind.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        run_id: str,
        unit: int,
        budgets: Sequence[Budget],
        keep: str | None = None,
        texts: Sequence[str] | None = None,
        elsewhere: bool = False,
        branches: BranchTable = DUO,
    ) -> None:
        self._directory, self._run_id, self._unit = Path(directory), run_id, unit
        self._budgets, self._texts, self._elsewhere, self._table = tuple(budgets), texts, elsewhere, branches
        tables = ("tokens", "paths") if keep is None else ("tokens", "paths", keep)
        self._files: dict[str, _PartFile] = {}
        try:
            for table in tables:
                self._files[table] = _PartFile(part_path(self._directory, table, unit), run_id, table)
        except BaseException:
            self._discard()
            raise
        self._n_sequences = self._n_tokens = 0
        self._n_trials: dict[tuple[int, int, int], int] = {}
        self._record: UnitRecord | None = None

    @property
    def record(self) -> UnitRecord:
        assert self._record is not None, "the unit is not finished"
        return self._record

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if not self._elsewhere:
                self._check_run()
            parts = {table: file.finish() for table, file in self._files.items()}
            for file in self._files.values():
                file.settle()
        except BaseException:
            self._discard()
            raise
        self._record = UnitRecord(self._unit, self._n_sequences, self._n_tokens, parts)

    def add_sequence(
        self,
        sequence: int,
        document: str,
        token_ids: np.ndarray,
        paths: OraclePaths,
        mask_TL: np.ndarray | None = None,
        warm_ids: Sequence[int] | np.ndarray = (),
        reference: Reference | None = None,
    ) -> None:
        """One sequence's tokens (T ids, the last only a target), those of its text before them that are run and not scored, and the
        paths of the T-1 positions.

        `mask_TL`, in a router's context, is what the router chose for each position.
        """
        tokens = schemas.tokens_table(
            self._run_id, sequence, document, token_ids, self._texts, mask_TL, warm_ids, reference, self._table.letters
        )
        self._files["tokens"].add(tokens)
        self._files["paths"].add(schemas.paths_table(self._run_id, sequence, paths, self._budgets, self._table))
        self._n_sequences += 1
        self._n_tokens += tokens.num_rows

    def add_losses(self, sequence: int, block: PatternLosses) -> None:
        """A block of every-pattern losses of one sequence, as soon as it is known; the run's budgets index `block.budget`."""
        n_positions, n_patterns = block.loss_NP.shape
        step = max(1, ROW_GROUP // n_patterns)  # a long block becomes rows a piece at a time
        for start in range(0, n_positions, step):
            rows = slice(start, start + step)
            piece = PatternLosses(block.position_N[rows], block.branches_PL, block.loss_NP[rows], block.budget)
            self._files["losses"].add(schemas.losses_table(self._run_id, sequence, piece, self._budgets, self._table))

    def add_trials(self, sequence: int, trials: Trials) -> None:
        """A block of one sequence's trials, in the order in which they were asked for."""
        keys = [(sequence, *key) for key in zip(trials.position_R.tolist(), trials.budget_R.tolist(), strict=True)]
        numbers = np.empty(len(keys), dtype=np.int32)
        for row, key in enumerate(keys):
            numbers[row] = self._n_trials.get(key, 0)
            self._n_trials[key] = numbers[row] + 1
        self._files["trials"].add(schemas.trials_table(self._run_id, sequence, trials, self._budgets, numbers, self._table))

    def _discard(self) -> None:
        for file in self._files.values():
            file.discard()

    def _check_run(self) -> None:
        # The directory may have been given to another run since, or lie on another machine's disk.
        try:
            found = read_json(self._directory / MANIFEST)["run_id"]
        except (OSError, ValueError, KeyError, TypeError):
            found = None
        if found != self._run_id:
            holds = "no run" if found is None else f"run {found}"
            raise InputError(
                f"a run's directory must be the same for the driver and every worker; here {self._directory} holds {holds},"
                f" not {self._run_id}"
            )


class _PartFile:
    """One Parquet file under a temporary name, until `commit` gives it its own."""

    def __init__(self, path: Path, run_id: str, table: str) -> None:
        self._path, self._aside = path, aside_of(path)
        self._schema = schemas.schema(table, run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        floats = [field.name for field in self._schema if pa.types.is_floating(field.type)]
        # Losses are nearly all distinct: a dictionary of them costs more than the bytes split by significance.
        try:
            self._writer = pq.ParquetWriter(
                self._aside,
                self._schema,
                compression="zstd",
                compression_level=3,
                use_dictionary=[name for name in self._schema.names if name not in floats],
                column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None,
            )
        except BaseException:
            self._aside.unlink(missing_ok=True)
            raise
        self._waiting: list[pa.Table] = []
        self._n_waiting = self._n_rows = 0

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._n_waiting += table.num_rows
        if self._n_waiting >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._n_waiting:
            # One dictionary per row group, or the writer falls back to plain strings where it changes.
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries(), row_group_size=self._n_waiting)
            self._n_rows += self._n_waiting
        self._waiting, self._n_waiting = [], 0

    def discard(self) -> None:
        """Leaves nothing behind, whatever state the file is in."""
        with contextlib.suppress(OSError, pa.ArrowException):  # closing writes, which may be what went wrong
            self._writer.close()
        with contextlib.suppress(OSError):
            self._aside.unlink(missing_ok=True)

    def finish(self) -> PartRecord:
        """Brings all bytes to the disk, still under the other name."""
        self._flush()
        self._writer.close()
        with self._aside.open("rb+") as file:
            os.fsync(file.fileno())
        return PartRecord(self._n_rows, self._aside.stat().st_size, file_sha256(self._aside))

    def settle(self) -> None:
        settle(self._aside, self._path)
