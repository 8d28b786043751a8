"""Documents to sequences: the windows that are searched and evaluated. Knows nothing of models beyond their limits.

A window is `seq_len` consecutive tokens of one document, and never crosses documents; a last window with nothing to score is
dropped. Windows follow one another without overlap, or begin `stride` tokens apart: then each scores only what no earlier one did,
and its tokens before that are warm, context alone. So are those that have too few tokens before them, where a least number is asked
for, and a token that is put in front of every window, such as a BOS. A document is read in pieces, no further than its windows are
asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.documents import read_documents
from duo_oracle.models.text.options import parse_split, shown, sources_of
from duo_oracle.models.text.splits import token_ids_of
from duo_oracle.models.text.tokenizer import SpecialTokenCount
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.reference import Reference

DEFAULT_SEQ_LEN = 256


@dataclass(frozen=True)
class Window:
    """A window of one document, as the tokens that are run: token_ids[t], whose target is token_ids[t + 1].

    Positions are those of the text: with tokens in front, position p holds token_ids[n_front + p].
    """

    index: int
    document: str
    token_ids: np.ndarray  # int32, (T,), those in front with them
    n_warm: int = 0
    """How many of the first tokens are warm: run by the full model in every context, never routed and never scored."""
    n_front: int = 0
    """How many of those are not of the text, but were put in front of it."""
    start: int = 0
    """How many tokens of the document stand before the window."""
    passed: np.ndarray | None = field(default=None, compare=False)
    """Of a document's first window, where windows begin further on: those tokens, int32, (start,)."""
    reference: Reference | None = field(default=None, compare=False)
    """What is known of the next token at each scored position, where that was asked for."""

    @property
    def opens_document(self) -> bool:
        """Whether it is its document's first."""
        return self.start == 0 or self.passed is not None

    @property
    def n_positions(self) -> int:
        """How many positions are scored: every one but the last, and the warm ones."""
        return len(self.token_ids) - 1 - self.n_warm

    @property
    def scored(self) -> slice:
        """Which of `token_ids` are scored."""
        return slice(self.n_warm, len(self.token_ids) - 1)

    @property
    def first_position(self) -> int:
        """The first scored position."""
        return self.n_warm - self.n_front

    def run_mask(self, mask_NL: np.ndarray) -> np.ndarray:
        """mask_TL of every token but the last, big where warm, from a row for each scored position."""
        if not self.n_warm:
            return mask_NL
        return np.concatenate([np.full((self.n_warm, mask_NL.shape[1]), Branch.BIG, dtype=mask_NL.dtype), mask_NL])


def resolve_seq_len(seq_len: int | None, n_positions: int, n_front: int = 0) -> int:
    """The window length, min(256, the model's positions) where none is given. Raises InputError for one that does not fit.

    A window's last token is only a target, so that one token in front of it takes no position away.
    """
    n_positions -= max(0, n_front - 1)
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
    front: Sequence[int] = (),
    stride: int | None = None,
    min_context: int = 0,
    offset: int = 0,
) -> Iterator[Window]:
    """The windows of one or several sources in order, at most `max_sequences`, with a piece of one document in memory at a time.

    With `per_document`, no more than the first so many windows of each document: many documents in few sequences. `split` makes
    documents of a document's parts (`parse_split`), `NAME#0`, `NAME#1`, ... . `notify` is told once, in the end, of special tokens
    that the texts hold and that were read as plain characters. `front` are the tokens in front of every window: a document that
    begins with them itself is not given them twice. With `stride`, windows begin so many tokens apart (default: `seq_len`); with
    `min_context`, only tokens that have at least so many of the window's text before them are scored. The first window of a
    document begins `offset` tokens into it.

    Raises InputError for bad data (as `read_documents`, `token_ids_of`), a bad `seq_len`, `stride`, `min_context` or `offset`, and
    a source without any position to score.
    """
    length = resolve_seq_len(seq_len, n_positions, len(front))
    stride = resolve_stride(stride, length)
    if not 0 <= min_context < length:
        raise InputError(f"`min_context` must be 0 to {length - 1}, less than `seq_len={length}`; got {min_context}")
    if offset < 0:
        raise InputError(f"`offset` must be at least 0; got {offset}")
    in_front = np.array(front, dtype=np.int32)
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
            passed, rest = _split(_without(pieces, in_front), offset)
            windows = _cut(rest, length, stride, max(0, min_context - 1))
            for number, (token_ids, n_warm) in enumerate(
                islice(windows, None if per_document is None else per_document - n_of[name])
            ):
                whole = np.concatenate([in_front, token_ids]) if len(front) else token_ids
                first = passed if offset and number == 0 else None
                yield Window(index, name, whole, n_warm + len(front), len(front), offset + number * stride, first)
                n_of[name] += 1
                index += 1
                if index == max_sequences:
                    _tell(count, notify)
                    return
    if index == 0:
        wanting = f"has {min_context} tokens or fewer, `min_context`" if min_context > 1 else "is one token long"
        if offset:
            wanting = f"has {offset + max(1, min_context)} tokens or fewer, with `offset={offset}`"
        raise InputError(f"{shown(sources)}: data must have a position to score, a token and its target; every document {wanting}")
    _tell(count, notify)


def resolve_stride(stride: int | None, seq_len: int) -> int:
    """How many tokens apart windows begin, `seq_len` where none is given. Raises InputError for more, and for none.

    >>> resolve_stride(None, 256), resolve_stride(64, 256)
    (256, 64)
    """
    if stride is None:
        return seq_len
    if not 1 <= stride <= seq_len:
        raise InputError(
            f"`stride` must be 1 to `seq_len={seq_len}`: windows that begin further apart leave tokens out; got {stride}"
        )
    return stride


def _cut(pieces: Iterator[np.ndarray], length: int, stride: int, n_least: int) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of the tokens that the pieces hold together, int32, each an array of its own; and how many of its first tokens are
    warm: scored by an earlier window, or among the first `n_least`."""
    held = np.empty(0, dtype=np.int32)
    n_warm, overlap = n_least, max(n_least, length - 1 - stride)
    for piece in pieces:
        held = np.concatenate([held, piece])
        start = 0
        while start + length <= len(held):
            yield held[start : start + length].copy(), n_warm
            start, n_warm = start + stride, overlap
        held = held[start:]
    if len(held) - 1 > n_warm:
        yield held.copy(), n_warm


def _split(pieces: Iterator[np.ndarray], offset: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The first `offset` tokens, or all where there are no more, and the pieces after them."""
    if not offset:
        return np.empty(0, dtype=np.int32), pieces
    held = np.empty(0, dtype=np.int32)
    for piece in pieces:
        held = np.concatenate([held, piece])
        if len(held) > offset:
            break
    return held[:offset], chain([held[offset:]], pieces)


def _without(pieces: Iterator[np.ndarray], in_front: np.ndarray) -> Iterator[np.ndarray]:
    """The pieces without these tokens at their beginning."""
    held = np.empty(0, dtype=np.int32)
    for piece in pieces:
        held = np.concatenate([held, piece])
        if len(held) < len(in_front):
            continue
        yield held[len(in_front) :] if len(in_front) and np.array_equal(held[: len(in_front)], in_front) else held
        yield from pieces
        return
    yield held


def _tell(count: SpecialTokenCount | None, notify: Callable[[str], None] | None) -> None:
    if notify is not None and count is not None and count.sentence is not None:
        notify(f"{count.sentence}; special-tokens parse reads each as one token")


def data_fingerprint(sequences: Iterable[Window]) -> str:
    """sha256 over the sequences' documents and token ids, and where the scored positions begin, in order."""
    digest = hashlib.sha256()
    for sequence in sequences:
        if sequence.n_warm:
            digest.update(f"{sequence.n_warm}\0{sequence.n_front}\0".encode())
        digest.update(f"{sequence.document}\0{len(sequence.token_ids)}\0".encode())
        digest.update(np.ascontiguousarray(sequence.token_ids, dtype="<i4").tobytes())
    return digest.hexdigest()
