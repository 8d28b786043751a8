"""Documents to sequences: the windows that are searched and evaluated. Knows nothing of models beyond their limits.

A window is `seq_len` consecutive tokens of one document. Windows do not overlap and never cross documents; a last window
of one token has nothing to score and is dropped. A document is read in pieces, no further than its windows are asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.options import parse_split, shown, sources_of
from duo_oracle.models.text.splits import token_ids_of
from duo_oracle.models.text.tokenizer import SpecialTokenCount
from duo_oracle.oracle.base.errors import InputError

DEFAULT_SEQ_LEN = 256


@dataclass(frozen=True)
class Window:
    """A window of one document: position t holds token_ids[t], whose target is token_ids[t + 1]."""

    index: int
    document: str
    token_ids: np.ndarray  # int32, (T,)

    @property
    def n_positions(self) -> int:
        """How many positions are scored: every one but the last."""
        return len(self.token_ids) - 1


def resolve_seq_len(seq_len: int | None, n_positions: int) -> int:
    """The window length, min(256, the model's positions) where none is given. Raises InputError for one that does not fit."""
    if seq_len is None:
        return min(DEFAULT_SEQ_LEN, n_positions)
    if seq_len < 2:
        raise InputError(f"seq-len must be at least 2, a token and its target; got {seq_len}")
    if seq_len > n_positions:
        raise InputError(f"seq-len must not exceed the model's {n_positions} positions; got {seq_len}")
    return seq_len


def read_sequences(
    sources: str | Iterable[str],
    tokenizer: Tokenizer | None,
    n_vocabulary: int,
    n_positions: int,
    seq_len: int | None = None,
    max_sequences: int | None = None,
    per_document: int | None = None,
    split: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Iterator[Window]:
    """The windows of one or several sources in order, at most `max_sequences`, with a piece of one document in memory at a time.

    With `per_document`, no more than the first so many windows of each document: many documents in few sequences. `split` makes
    documents of a document's parts (`parse_split`), `NAME#0`, `NAME#1`, ... . `notify` is told once, in the end, of special tokens
    that the texts hold and that were read as plain characters.

    Raises InputError for bad data (as `read_documents`, `token_ids_of`), a bad `seq_len`, and a source without any
    position to score.
    """
    length = resolve_seq_len(seq_len, n_positions)
    for name, value in (("max-sequences", max_sequences), ("per-document", per_document)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1; got {value}")
    sources = sources_of(sources)
    count = SpecialTokenCount(tokenizer) if tokenizer is not None and tokenizer.encode_special_tokens else None
    parts = parse_split(split)
    n_parts: Counter[str] = Counter()
    n_of: Counter[str] = Counter()
    index = 0
    for document in read_documents(sources):
        for pieces in token_ids_of(document, tokenizer, n_vocabulary, parts, count):
            name = document.name if parts is None else f"{document.name}#{n_parts[document.name]}"
            n_parts[document.name] += 1
            for token_ids in islice(_cut(pieces, length), None if per_document is None else per_document - n_of[name]):
                yield Window(index, name, token_ids)
                n_of[name] += 1
                index += 1
                if index == max_sequences:
                    _tell(count, notify)
                    return
    if index == 0:
        raise InputError(
            f"{shown(sources)}: data must have a position to score, a token and its target; every document is one token long"
        )
    _tell(count, notify)


def _cut(pieces: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Windows of the tokens that the pieces hold together: int32, each an array of its own."""
    held = np.empty(0, dtype=np.int32)
    for piece in pieces:
        held = np.concatenate([held, piece])
        for start in range(0, len(held) - length + 1, length):
            yield held[start : start + length].copy()
        held = held[len(held) // length * length :]
    if len(held) > 1:
        yield held.copy()


def _tell(count: SpecialTokenCount | None, notify: Callable[[str], None] | None) -> None:
    if notify is not None and count is not None and count.sentence is not None:
        notify(f"{count.sentence}; special-tokens parse reads each as one token")


def data_fingerprint(sequences: Iterable[Window]) -> str:
    """sha256 over the sequences' documents and token ids, in order."""
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(f"{sequence.document}\0{len(sequence.token_ids)}\0".encode())
        digest.update(np.ascontiguousarray(sequence.token_ids, dtype="<i4").tobytes())
    return digest.hexdigest()
