"""The words of options about text. Imports nothing heavy, so that the command line starts at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.ranges import at_least, whole

BLANK_LINES = "blank-lines"


class SpecialTokens(StrEnum):
    """How a special token that is written in a text is read: as the characters that it is, or as the one token."""

    TEXT = "text"
    PARSE = "parse"


def parse_split(split: str | None) -> str | int | None:
    """BLANK_LINES, a number of tokens, or None. Raises InputError for another text."""
    if split is None or split == BLANK_LINES:
        return split
    n_tokens = whole(str(split))
    if n_tokens is None or n_tokens < 2:
        raise InputError(f"`split` is {BLANK_LINES}, or a number of tokens, at least 2; got {split!r}")
    return n_tokens


def sources_of(data: str | Iterable[str]) -> tuple[str, ...]:
    """The sources that data names: a text by itself is one."""
    return (data,) if isinstance(data, str) else tuple(data)


def shown(data: Iterable[str]) -> str:
    """Sources as one text: one as it is, several as a shell would take them."""
    data = tuple(data)
    return data[0] if len(data) == 1 else shlex.join(data)


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What text a command reads, and in what windows: of every command that reads windows.

    Raises InputError, one line that states the law and the value, for an option outside its range.

    Args:
        data: files, folders or globs of text, .jsonl, .parquet or .arrow; hf:OWNER/NAME:SPLIT; or a shipped holdout:
            holdout:prose, holdout:code, and of 2026 holdout:recent-prose, holdout:recent-code
        # data
        seq_len: tokens of the text per sequence; default 256, or the model's positions where they are fewer
        stride: sequences begin so many tokens apart, and each scores only what no earlier one did; default seq-len, no overlap
        min_context: score only tokens with at least so many tokens of their sequence before them; default 0, all but the first
        bos: token in front of every sequence, run by the full model and never scored: auto (what the tokenizer puts in front of a
            text, else its EOS where there is one), none, or a token
        max_sequences: stop after so many sequences; default all
        per_document: take only the first so many sequences of each document, and so more documents; default all
        split: make documents of parts of the documents: blank-lines, or a number of tokens; default none
        special_tokens: how a special token written in a text is read, as the characters that it is or as one token
    """

    data: tuple[str, ...] = field(metadata={"uri": True})
    seq_len: int | None = None
    stride: int | None = None
    min_context: int = 0
    bos: str = "auto"
    max_sequences: int | None = None
    per_document: int | None = None
    split: str | None = None
    special_tokens: SpecialTokens = SpecialTokens.TEXT

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", sources_of(self.data))
        check_choice("special_tokens", self.special_tokens, SpecialTokens)
        parse_split(self.split)
        at_least(self, seq_len=2, stride=1, min_context=0, max_sequences=1, per_document=1)
