"""The text of a command: what stands in front of its windows, how long they are, and the windows, read as often as asked.

A search's text, a finished run's, a router's and a reference's are read by one rule. Knows no search and no run directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from duo_oracle.models.checkpoint import Checkpoint
from duo_oracle.models.text.front import front_tokens
from duo_oracle.models.text.options import TextOptions
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window, read_sequences, resolve_seq_len, resolve_stride
from duo_oracle.search.job.pool import Notify


class Read(Protocol):
    def __call__(self, *, notify: Notify | None = None) -> Iterator[Window]: ...


class Sizes(Protocol):
    """What of a model its text depends on."""

    @property
    def n_vocabulary(self) -> int: ...
    @property
    def n_positions(self) -> int: ...


@dataclass(frozen=True)
class SearchText:
    """What a config's data are for a model."""

    front: tuple[int, ...]
    """The tokens in front of every window."""
    seq_len: int
    read: Read
    """The windows in order, from the beginning at each call; `notify` is told of special tokens that were read as plain text."""


def text_of(config: TextOptions, checkpoint: Checkpoint, model: Sizes, offset: int = 0) -> SearchText:
    """The text that `config` names, in the model's tokens, from token `offset` of each document on. Raises InputError where its
    options do not fit the model."""
    tokenizer = None if checkpoint.tokenizer_json is None else load_tokenizer(checkpoint.tokenizer_json, config.special_tokens)
    front = front_tokens(config.bos, tokenizer, checkpoint.tokenizer_said, checkpoint.config, model.n_vocabulary)
    seq_len = resolve_seq_len(config.seq_len, model.n_positions, len(front))
    read = partial(
        read_sequences,
        config.data,
        tokenizer,
        model.n_vocabulary,
        model.n_positions,
        config.seq_len,
        config.max_sequences,
        config.per_document,
        config.split,
        front=front,
        stride=resolve_stride(config.stride, seq_len),
        min_context=config.min_context,
        offset=offset,
    )
    return SearchText(front, seq_len, read)
