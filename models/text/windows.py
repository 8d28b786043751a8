"""Documents to sequences: the windows that are searched and evaluated. Knows nothing of models beyond their limits.

A window is `seq_len` consecutive tokens of one document. Windows do not overlap and never cross documents; a last window
of one token has nothing to score and is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.documents import Document, read_documents
from duo_oracle.models.text.tokenizer import encode
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


def token_ids_of(document: Document, tokenizer: Tokenizer | None, n_vocabulary: int) -> np.ndarray:
    """The document's tokens: int32. Raises InputError for text without a tokenizer, and a token outside the vocabulary."""
    if document.text is not None:
        if tokenizer is None:
            raise InputError(f"{document.where}: the model has no tokenizer.json, so its data must carry tokens, not text")
        token_ids = np.array(encode(tokenizer, document.text), dtype=np.int64)
    else:
        token_ids = np.array(document.token_ids, dtype=np.int64)
    outside = np.flatnonzero((token_ids < 0) | (token_ids >= n_vocabulary))
    if len(outside):
        raise InputError(
            f"{document.where}: a token id must lie in the model's vocabulary, 0 to {n_vocabulary - 1}; "
            f"got {token_ids[outside[0]]} at token {outside[0]}"
        )
    return token_ids.astype(np.int32)


def read_sequences(
    source: str,
    tokenizer: Tokenizer | None,
    n_vocabulary: int,
    n_positions: int,
    seq_len: int | None = None,
    max_sequences: int | None = None,
    per_document: int | None = None,
) -> Iterator[Window]:
    """The windows of a source in order, at most `max_sequences`, with one document in memory at a time.

    With `per_document`, no more than the first so many windows of each document: many documents in few sequences.

    Raises InputError for bad data (as `read_documents`, `token_ids_of`), a bad `seq_len`, and a source without any
    position to score.
    """
    length = resolve_seq_len(seq_len, n_positions)
    if max_sequences is not None and max_sequences < 1:
        raise InputError(f"max-sequences must be at least 1; got {max_sequences}")
    if per_document is not None and per_document < 1:
        raise InputError(f"per-document must be at least 1; got {per_document}")
    index = 0
    for document in read_documents(source):
        token_ids = token_ids_of(document, tokenizer, n_vocabulary)
        for start in range(0, len(token_ids) - 1, length)[:per_document]:
            yield Window(index, document.name, token_ids[start : start + length])
            index += 1
            if index == max_sequences:
                return
    if index == 0:
        raise InputError(f"{source}: data must have a position to score, a token and its target; every document is one token long")


def data_fingerprint(sequences: Iterable[Window]) -> str:
    """sha256 over the sequences' documents and token ids, in order."""
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(f"{sequence.document}\0{len(sequence.token_ids)}\0".encode())
        digest.update(np.ascontiguousarray(sequence.token_ids, dtype="<i4").tobytes())
    return digest.hexdigest()
