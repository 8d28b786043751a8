"""A document's tokens in pieces, and the parts that a split makes of it. Knows nothing of windows.

`blank-lines` makes a document of every run of lines between blank ones; a whole number, of every so many tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.documents import Document
from duo_oracle.models.text.options import BLANK_LINES
from duo_oracle.models.text.pieces import token_ids_in_pieces
from duo_oracle.models.text.tokenizer import SpecialTokenCount
from duo_oracle.oracle.base.errors import InputError


def token_ids_of(
    document: Document,
    tokenizer: Tokenizer | None,
    n_vocabulary: int,
    split: str | int | None = None,
    count: SpecialTokenCount | None = None,
) -> Iterator[Iterator[np.ndarray]]:
    """The documents that a document is split into (itself without a split), each as its tokens in pieces, int32: to be taken before
    the next document is. `count` sees the text that is tokenised.

    Raises InputError for text without a tokenizer, tokens outside the vocabulary, and lines looked for in tokens.
    """
    parts = _paragraphs(document) if split == BLANK_LINES else iter((document.parts and document.parts(),))
    for text in parts:
        pieces = _checked(_pieces(document, text, tokenizer, count), document.where, n_vocabulary)
        if isinstance(split, int):
            yield from (iter((token_ids,)) for token_ids in _by_tokens(pieces, split))
        else:
            yield pieces


def _pieces(
    document: Document, text: Iterator[str] | None, tokenizer: Tokenizer | None, count: SpecialTokenCount | None
) -> Iterator[np.ndarray]:
    if text is None:
        return iter((np.array(document.token_ids, dtype=np.int64),))
    if tokenizer is None:
        for _ in text:  # what is wrong with the text itself is said first
            pass
        raise InputError(f"{document.where}: the model has no tokenizer.json, so its data must carry tokens, not text")
    return token_ids_in_pieces(text if count is None else count.watch(text), tokenizer, document.where)


def _paragraphs(document: Document) -> Iterator[Iterator[str]]:
    """The text of every paragraph, to be taken before the next."""
    if document.parts is None:
        raise InputError(f"{document.where}: `split={BLANK_LINES!r}` is of text, and the row has tokens; a number splits tokens")
    for is_blank, parts in groupby(_lines(document.parts()), key=lambda line: line[0]):
        if not is_blank:
            yield (part for _, part in parts)


def _lines(parts: Iterator[str]) -> Iterator[tuple[bool, str]]:
    """The text in lines with their ends, a long line in several parts; and of each whether its line is blank."""
    held, within = "", False  # `within`: the line of `held` has begun before it, and is not blank
    for part in parts:
        *lines, held = (held + part).split("\n")
        for line in lines:
            yield not (within or line.strip()), line + "\n"
            within = False
        if held.strip():
            yield False, held
            held, within = "", True
    if held:
        yield not within, held


def _by_tokens(pieces: Iterator[np.ndarray], n_tokens: int) -> Iterator[np.ndarray]:
    held = np.empty(0, dtype=np.int32)
    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) >= n_tokens:
            yield held[:n_tokens]
            held = held[n_tokens:]
    if len(held):
        yield held


def _checked(pieces: Iterator[np.ndarray], where: str, n_vocabulary: int) -> Iterator[np.ndarray]:
    """The same pieces as int32. Raises InputError for a token outside the vocabulary."""
    n_before = 0
    for token_ids in pieces:
        outside = np.flatnonzero((token_ids < 0) | (token_ids >= n_vocabulary))
        if len(outside):
            raise InputError(
                f"{where}: a token id must lie in the model's vocabulary, 0 to {n_vocabulary - 1}; "
                f"got {token_ids[outside[0]]} at token {n_before + outside[0]}"
            )
        n_before += len(token_ids)
        yield token_ids.astype(np.int32)
