"""Token ids of a text of any length in memory that does not grow with it: the text is tokenised in pieces.

A text may be cut where its tokens are those of its two sides put together. Tokenizers split a text into words before they merge, so
that this holds between most words; it is tried at every cut, on the text some thousand characters before and behind. A tokenizer
that allows no such cut (one that marks a text's start, or merges across words) reads a text only whole, and only up to a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from tokenizers import Tokenizer

from duo_oracle.models.text.tokenizer import encode
from duo_oracle.oracle.base.errors import InputError

PIECE = 1 << 17
"""Characters of a piece, about: a text that is not longer is tokenised whole."""
AROUND = 1 << 11
"""Characters on either side of a cut on which it is tried."""
WHOLE = 1 << 23
"""The most characters of a text that is tokenised whole, where it cannot be cut."""
_TRIES = 16
_BETWEEN_WORDS = (
    re.compile(r"(?<=\w) (?=[^\W\d])"),
    re.compile(r"(?<=\S)(?=\s\S)"),
    re.compile(r"(?<=\w)(?=[^\w\s])|(?<=[^\w\s])(?=\w)"),
)


def token_ids_in_pieces(parts: Iterator[str], tokenizer: Tokenizer, where: str) -> Iterator[np.ndarray]:
    """The token ids, int64, of the text that the parts make, piece by piece: those that its whole would have.

    Takes no more parts than the pieces that are asked for need. Raises InputError, naming `where`, for a text of more than WHOLE
    characters that the tokenizer cannot read in pieces.
    """
    held = ""
    limit = PIECE
    while True:
        for part in parts:
            held += part
            if len(held) > limit + AROUND:
                break
        else:
            yield _ids(tokenizer, held)
            return
        cut = _cut(held, tokenizer)
        if cut is not None:
            yield _ids(tokenizer, held[:cut])
            held, limit = held[cut:], PIECE
        elif len(held) > WHOLE:
            raise InputError(
                f"{where}: the model's tokenizer can only read this text as a whole, and of a whole at most {WHOLE:,} characters; "
                "`split='blank-lines'` makes a document of every paragraph"
            )
        else:
            limit = 2 * len(held)


def _ids(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array(encode(tokenizer, text), dtype=np.int64)


def _cut(text: str, tokenizer: Tokenizer) -> int | None:
    """A place, as late as may be, at which the text's tokens are those of its two sides; None where none was found."""
    last = len(text) - AROUND
    first = max(last - 4 * AROUND, AROUND)
    found = chain.from_iterable(
        islice(reversed([m.start() for m in between.finditer(text, first, last)]), _TRIES) for between in _BETWEEN_WORDS
    )
    return next((place for place in found if _is_cut(text, place, tokenizer)), None)


def _is_cut(text: str, place: int, tokenizer: Tokenizer) -> bool:
    before, behind = text[place - AROUND : place], text[place : place + AROUND]
    return encode(tokenizer, before) + encode(tokenizer, behind) == encode(tokenizer, before + behind)
