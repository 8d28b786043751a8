"""Training windows from Parquet shards, tokenised where a batch comes to them and forgotten behind it: no tokenised copy is kept.

Every row of the batch reads for itself: row b takes the windows of one row group after the other, in a seeded order of the source's
row groups, and each row group's windows in a seeded order. A batch is a pure function of the seed, the step and how many windows
each row group has; these numbers are kept in a file as they become known, so that a training that resumes, by whatever number of
processes, tokenises again only what its rows stand in. Windows do not cross row groups: of each, less than a window is left out.

Axes: B batch, T token.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.shards import RowGroup
from duo_oracle.models.text.tokenizer import SpecialTokenCount
from duo_oracle.models.training.batches import Windows, in_turn, separated
from duo_oracle.oracle.base.errors import InputError


def texts_in(sources: Sequence[Sequence[RowGroup]]) -> Iterator[str]:
    """The texts of the sources in turn, as `texts_of`."""
    return in_turn(chain.from_iterable(group.documents() for group in groups) for groups in sources)


class WindowCounts:
    """How many windows row groups have, as far as it is known: lines of a file of this process, read with those of all others."""

    def __init__(self, work: Path, key: str, rank: int = 0) -> None:
        self._file = work / f"windows-{key}-{rank}.jsonl"
        self._known: dict[str, int] = {}
        for path in sorted(work.glob(f"windows-{key}-*.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                try:
                    name, count = json.loads(line)
                except (ValueError, TypeError):  # a line that a killed process did not end
                    continue
                self._known[name] = int(count)

    def get(self, group: RowGroup) -> int | None:
        return self._known.get(group.name)

    def put(self, group: RowGroup, count: int) -> None:
        """Keeps the number of a row group, once."""
        if group.name in self._known:
            return
        self._known[group.name] = count
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([group.name, count]) + "\n")


def counts_key(tokenizer: Tokenizer, separator: int, n_positions: int) -> str:
    """What the numbers of windows depend on beside the text."""
    return hashlib.sha256(f"{tokenizer.to_str()}{separator} {n_positions}".encode()).hexdigest()[:16]


class StreamedWindows:
    """Batches of windows, as `Windows` has them, of sources' row groups; row b of the batch is of source b modulo their number."""

    def __init__(
        self,
        sources: Sequence[Sequence[RowGroup]],
        tokenizer: Tokenizer,
        separator: int,
        n_positions: int,
        n_batch: int,
        seed: int,
        counts: WindowCounts,
    ) -> None:
        self._tokenizer, self._separator, self.n_positions, self.n_batch = tokenizer, separator, n_positions, n_batch
        self._counts, self._special = counts, SpecialTokenCount(tokenizer)
        n_sources = len(sources)
        if n_batch < n_sources:
            raise InputError(f"a `batch` has a window of every training text; got {n_batch} windows and {n_sources} texts")
        rows_of = [len(range(source, n_batch, n_sources)) for source in range(n_sources)]
        self._rows = [
            _Row(sources[row % n_sources], (seed, row % n_sources), row // n_sources, rows_of[row % n_sources], self)
            for row in range(n_batch)
        ]

    @property
    def n_tokens(self) -> int:
        """Targets of a step."""
        return self.n_batch * self.n_positions

    def batch(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """token_id_BT of some rows of the step's batch, int64, T = n_positions + 1."""
        return np.stack([row.window(step) for row in self._rows[rows]])

    def count(self, group: RowGroup) -> int | None:
        """How many windows a row group has, where it is known."""
        return self._counts.get(group)

    def windows(self, group: RowGroup) -> np.ndarray:
        """The windows of a row group in their order, uint32 (windows, n_positions + 1)."""
        before = self._special.sentence
        tokens = np.concatenate(
            [np.empty(0, np.int64), *separated(group.documents(), self._tokenizer, self._separator, self._special)]
        ).astype(np.uint32)
        if before is None and self._special.sentence is not None:
            print(f"{group.shard.file.shown}: {self._special.sentence}", file=sys.stderr)
        n_windows = max(0, len(tokens) - 1) // self.n_positions
        if self._counts.get(group) not in (None, n_windows):
            raise InputError(f"{group.shard.file.shown} holds other text than when this training began; choose another `out`")
        self._counts.put(group, n_windows)
        place_WT = np.arange(n_windows)[:, None] * self.n_positions + np.arange(self.n_positions + 1)
        return tokens[place_WT] if n_windows else np.empty((0, self.n_positions + 1), np.uint32)


AnyWindows = Windows | StreamedWindows
"""What gives a training its batches."""


class _Row:
    """One row of every batch: where it stands in its row groups."""

    def __init__(self, groups: Sequence[RowGroup], seed: tuple[int, int], place: int, n_rows: int, of: StreamedWindows) -> None:
        self._groups, self._seed, self._place, self._n_rows, self._of = groups, seed, place, n_rows, of
        self._order: tuple[int, np.ndarray] | None = None
        self._turn, self._first = 0, 0  # how many row groups lie behind it, and the step that begins this one
        self._windows: np.ndarray | None = None

    def window(self, step: int) -> np.ndarray:
        """The window of a step, int64; a step before its row group is looked for from the beginning."""
        if step < self._first:
            self._turn, self._first, self._windows = 0, 0, None
        n_empty = 0
        while step >= self._first + (count := self._count()):
            n_empty = 0 if count else n_empty + 1
            if n_empty > 2 * len(self._groups):
                shown = self._groups[0].shard.file.shown
                least = self._of.n_positions + 1
                raise InputError(f"every training text must fill a window of {least} tokens; no row group of {shown} does")
            self._turn, self._first, self._windows = self._turn + 1, self._first + count, None
        return self._read()[step - self._first].astype(np.int64)

    def _count(self) -> int:
        known = self._of.count(self._group())
        return len(self._read()) if known is None else known

    def _read(self) -> np.ndarray:
        """The windows of the row group that it stands in."""
        if self._windows is None:
            windows = self._of.windows(self._group())
            self._windows = windows[np.random.default_rng((*self._seed, 1, self._number())).permutation(len(windows))]
        return self._windows

    def _number(self) -> int:
        """Of that row group, in the endless sequence of epochs that the rows of a source deal out among them."""
        return self._turn * self._n_rows + self._place

    def _group(self) -> RowGroup:
        epoch, place = divmod(self._number(), len(self._groups))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((*self._seed, 0, epoch)).permutation(len(self._groups))
        return self._groups[int(self._order[1][place])]
