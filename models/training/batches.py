"""Training windows: every text file tokenised once into a memory-mapped array, then windows drawn in a seeded order.

A batch is a pure function of (seed, step), so that a resumed run sees the same batches without any stored state. Training
windows are packed: they cross documents, with the separator token between. Evaluation windows never do (`models/text/windows.py`).

Axes: B batch, T token.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.text.documents import Document, read_documents
from duo_oracle.models.text.pieces import PIECE, token_ids_in_pieces
from duo_oracle.models.text.sources import find_files, source_name
from duo_oracle.models.text.tokenizer import SEPARATOR, SpecialTokenCount, load_tokenizer
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.progress import progress
from duo_oracle.oracle.base.whole_file import written_whole

WORK = "work"
_DOCUMENTS_AT_ONCE = 256
_BLOCK = 1 << 20  # bytes of a file that are hashed at once


def texts_of(sources: tuple[str, ...]) -> Iterator[str]:
    """The texts of the sources in turn, one document of each, until all are read: so that a tokenizer's sample is even.

    Raises InputError for a document that carries tokens instead of text.
    """
    return in_turn(read_documents(source) for source in sources)


def in_turn(sources: Iterable[Iterator[Document]]) -> Iterator[str]:
    """The texts of documents that come from several sources, as `texts_of`."""
    readers = list(sources)
    while readers:
        for reader in list(readers):
            document = next(reader, None)
            if document is None:
                readers.remove(reader)
            else:
                yield "".join(_parts_of(document))


def training_tokenizer(checkpoint: Checkpoint, model: str) -> tuple[Tokenizer, int]:
    """A model's tokenizer and its separator. Raises InputError for a model that lacks either."""
    if checkpoint.tokenizer_json is None:
        raise InputError(f"training reads text, so the model must have a tokenizer.json; {model} has none")
    tokenizer = load_tokenizer(checkpoint.tokenizer_json)
    return tokenizer, separator_of(tokenizer, checkpoint.config)


def separator_of(tokenizer: Tokenizer, config: Mapping[str, Any]) -> int:
    """The token between documents: ours where the tokenizer has it, else the one that ends the model's texts by config.json."""
    ends = config.get("eos_token_id")
    ours = tokenizer.token_to_id(SEPARATOR)
    found = ours if ours is not None else ends[0] if isinstance(ends, list) and ends else ends
    if not isinstance(found, int):
        raise InputError(f"documents are separated by {SEPARATOR} or by the eos_token_id of config.json; the model has neither")
    return found


def work_folder(out: str, work: str | None) -> Path:
    """Where a training keeps its tokenised text."""
    return Path(work) if work else Path(out) / WORK


def tokenised(source: str, tokenizer: Tokenizer, separator: int, work: Path) -> np.ndarray:
    """All documents of a source as one memory-mapped uint32 array, each followed by the separator; kept in `work`.

    The file's name holds a digest of text, tokenizer and separator, so that none can change under it.
    """
    digest = hashlib.sha256(f"{tokenizer.to_str()}{separator}".encode())
    files = find_files(source)
    for file in files:
        if len(files) > 1 or file.column:
            digest.update(f"{file.name}\0{file.column}\0{file.path.stat().st_size}\0".encode())
        with file.path.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    path = work / f"{source_name(source)}-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        documents = progress(read_documents(source), desc=f"tokenising {path.stem}", unit="document")
        count = SpecialTokenCount(tokenizer)
        with written_whole(path) as aside:
            _save(aside, separated(documents, tokenizer, separator, count))
        if count.sentence is not None:
            print(f"{source_name(source)}: {count.sentence}", file=sys.stderr)
    tokens: np.ndarray = np.load(path, mmap_mode="r")
    return tokens


def document_numbers(source: str) -> np.ndarray:
    """Which document each text of a source is of, numbered in the order in which they begin: texts of one name are of one."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(document.name, len(numbers)) for document in read_documents(source)])


def separated(
    documents: Iterable[Document], tokenizer: Tokenizer, separator: int, count: SpecialTokenCount
) -> Iterator[np.ndarray]:
    """The tokens of the documents in turn, a separator after each: short ones many at once, long ones in pieces."""
    pending: list[str] = []

    def encoded() -> Iterator[np.ndarray]:
        for encoding in tokenizer.encode_batch_fast(pending, add_special_tokens=False):
            yield np.array([*encoding.ids, separator])
        pending.clear()

    for document in documents:
        begins, rest = "", count.watch(_parts_of(document))
        for part in rest:
            begins += part
            if len(begins) > PIECE:
                yield from encoded()
                yield from token_ids_in_pieces(chain((begins,), rest), tokenizer, document.where)
                yield np.array([separator])
                break
        else:
            pending.append(begins)
        if len(pending) == _DOCUMENTS_AT_ONCE:
            yield from encoded()
    yield from encoded()


def _parts_of(document: Document) -> Iterator[str]:
    if document.parts is None:
        raise InputError(f"{document.where}: training needs text, because it makes its own tokenizer; this row has tokens")
    return document.parts()


def _save(path: Path, pieces: Iterator[np.ndarray]) -> None:
    """A `.npy` file of the pieces joined, as uint32, in the memory of one; its header is written again at the end."""
    form = {"descr": "<u4", "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, form | {"shape": (0,)})
        n_tokens = 0
        for piece in pieces:
            file.write(piece.astype("<u4").tobytes())
            n_tokens += len(piece)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, form | {"shape": (n_tokens,)})


class Windows:
    """Windows of `n_positions` tokens and their next tokens, equally many of every stream, each stream in its own order."""

    def __init__(self, streams: list[np.ndarray], n_positions: int, n_batch: int, seed: int) -> None:
        self.streams, self.n_positions, self.n_batch, self.seed = streams, n_positions, n_batch, seed
        self.n_windows = [(len(stream) - 1) // n_positions for stream in streams]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        if min(self.n_windows) < 1:
            shortest = min(len(stream) for stream in streams)
            raise InputError(f"every training text must fill a window of {n_positions + 1} tokens; the shortest has {shortest}")

    @property
    def n_tokens(self) -> int:
        """Targets of a step."""
        return self.n_batch * self.n_positions

    def token_id_BT(self, step: int, device: torch.device | str) -> Tensor:
        """The step's batch on a device."""
        return torch.from_numpy(self.batch(step)).to(device)

    def batch(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """token_id_BT of some rows of the step's batch, int64, T = n_positions + 1: inputs and targets."""
        draws = np.arange(step * self.n_batch, (step + 1) * self.n_batch)[rows]
        return np.stack([self._window(int(draw % len(self.streams)), int(draw // len(self.streams))) for draw in draws])

    def _window(self, stream: int, draw: int) -> np.ndarray:
        epoch, place = divmod(draw, self.n_windows[stream])
        if self._orders.get(stream, (None,))[0] != epoch:
            generator = np.random.default_rng((self.seed, stream, epoch))
            self._orders[stream] = (epoch, generator.permutation(self.n_windows[stream]))
        start = int(self._orders[stream][1][place]) * self.n_positions
        return self.streams[stream][start : start + self.n_positions + 1].astype(np.int64)
