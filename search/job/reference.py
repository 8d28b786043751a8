"""The reference of a search: what a better-informed distribution says of every scored position, made ready for the engine.

`--reference` names a model, `self` (the searched model, with more of the document before each position), or a reference file. The
driver asks it, in plain passes of a full model; workers get the answers with the sequences and know no reference.

Axes: T token, N scored positions of a window, M some of them, K listed tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.models.text.tokenizer import load_tokenizer
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.reference import reference_of, states_of_full
from duo_oracle.oracle.model import OracleModel, token_ids_on
from duo_oracle.oracle.reference import Reference
from duo_oracle.results.store.manifest import file_sha256
from duo_oracle.results.store.reference_files import SUFFIX, ReferenceFile
from duo_oracle.search.job.config import SELF, SearchConfig
from duo_oracle.search.job.pool import Unit

MOST_SELF_CONTEXT = 1024
"""What `self` sees before a position where nothing else is said, if the model has so many positions."""
LEAST_REST = 1e-9
"""The probability that a file's listed tokens leave to all others at least, so that no label is impossible."""
_ROWS = 64  # positions whose distributions are held at once


class Source(Protocol):
    """Somebody who says what comes next."""

    context: int
    """How many tokens of the document before a window it wants."""

    def log_q(self, window: Window, before: np.ndarray) -> Iterator[Tensor]:
        """ln q in float64 at the window's scored positions in order, some at a time: log_q_MV. `before` are the tokens of the
        document before the window, the last `context` of them at most."""


@dataclass(frozen=True)
class References:
    """What a source says, as targets of the searched model's head; `identity` is what of it decides the tables."""

    head: Head
    source: Source
    identity: dict[str, Any]

    def of(self, window: Window, before: np.ndarray) -> Reference:
        """The reference of a window's scored positions."""
        label_N = token_ids_on(self.head.w_VD.device, window.token_ids[window.n_warm + 1 :])
        parts, done = [], 0
        for log_q_MV in self.source.log_q(window, before):
            log_q_MV = log_q_MV.to(self.head.w_VD.device)
            parts.append(reference_of(self.head, log_q_MV, label_N[done : done + len(log_q_MV)]))
            done += len(log_q_MV)
        return Reference.joined(parts)


class Passes:
    """A full model's own distributions. With `context` N a position sees up to N tokens of the document before it, by passes whose
    last position sees N and whose first at least three quarters of that; without, what the window holds."""

    def __init__(self, model: OracleModel, context: int | None, what: str) -> None:
        self._model, self._head, self._n_before, self._what = model, Head(model), context, what
        self.context = 0 if context is None else context

    @torch.no_grad()
    def log_q(self, window: Window, before: np.ndarray) -> Iterator[Tensor]:
        for h_ND in self._states(window, before):
            for rows in chunks(len(h_ND), _ROWS):
                yield self._head.logits(h_ND[rows]).double().log_softmax(dim=1)

    def _states(self, window: Window, before: np.ndarray) -> Iterator[Tensor]:
        """The states of the scored positions, pass by pass."""
        n_front, last = window.n_front, len(window.token_ids) - 1
        if self._n_before is None:
            yield self._pass(window, window.token_ids[:last])[window.n_warm :]
            return
        front, text = window.token_ids[:n_front], window.token_ids[n_front:last]
        tokens = np.concatenate([before, text])
        first = len(before) + window.n_warm - n_front  # the first scored position among them
        for block in chunks(window.n_positions, max(1, self._n_before // 4)):
            stop = first + block.stop
            start = max(0, stop - 1 - self._n_before)
            h_TD = self._pass(window, np.concatenate([front, tokens[start:stop]]))
            yield h_TD[len(h_TD) - (block.stop - block.start) :]

    def _pass(self, window: Window, token_ids: np.ndarray) -> Tensor:
        if len(token_ids) > self._model.n_positions:
            raise InputError(
                f"the reference {self._what} has {self._model.n_positions} positions, and sequence {window.index} wants "
                f"{len(token_ids)}; take a smaller `reference_context` or `seq_len`"
            )
        return states_of_full(self._model, self._head, token_ids_on(self._model.device, token_ids))


class Table:
    """A reference file's distributions: the listed tokens as they are listed, all others as the full model spreads the rest."""

    context = 0

    def __init__(self, file: ReferenceFile, full: Passes) -> None:
        self._file, self._full = file, full
        self._documents: dict[str, int] = {}  # the first window of each

    def log_q(self, window: Window, before: np.ndarray) -> Iterator[Tensor]:
        if self._file.by_document and window.opens_document:
            other = self._documents.setdefault(window.document, window.index)
            if other != window.index:
                raise InputError(
                    f"{self._file.path} names positions by document, and two documents are called {window.document!r}; "
                    "name them by sequence"
                )
        key: str | int = window.document if self._file.by_document else window.index
        position = window.first_position + (window.start if self._file.by_document else 0)
        token_id_N = window.token_ids[window.scored]
        done = 0
        for log_p_MV in self._full.log_q(window, before):
            for log_p_V in log_p_MV:
                listed = self._file.at(key, position + done, int(token_id_N[done]))
                spread_over(log_p_V, torch.from_numpy(listed.token_id_K), torch.from_numpy(listed.log_p_K))
                done += 1
            yield log_p_MV


def spread_over(log_p_V: Tensor, token_id_K: Tensor, log_p_K: Tensor) -> None:
    """Give the listed tokens their probabilities and all others the rest, in the proportions that they have: in place.

    >>> log_p_V = torch.tensor([0.5, 0.25, 0.25, 0.0]).double().log()
    >>> spread_over(log_p_V, torch.tensor([3]), torch.tensor([0.6]).double().log())
    >>> log_p_V.exp()
    tensor([0.2000, 0.1000, 0.1000, 0.6000], dtype=torch.float64)
    """
    token_id_K, log_p_K = token_id_K.to(log_p_V.device), log_p_K.to(log_p_V.device)
    log_p_V[token_id_K] = -torch.inf
    others = torch.logsumexp(log_p_V, dim=0)
    if torch.isneginf(others):  # every token that the model thinks possible is listed
        log_p_V[token_id_K] = log_p_K - torch.logsumexp(log_p_K, dim=0)
        return
    rest = max(LEAST_REST, 1.0 - float(log_p_K.exp().sum()))
    log_p_V += np.log(rest) - others
    log_p_V[token_id_K] = log_p_K
    log_p_V -= torch.logsumexp(log_p_V, dim=0)  # rounded lists add up to 1 with the rest


def open_reference(config: SearchConfig, checkpoint: Checkpoint, model: OracleModel, n_front: int) -> References | None:
    """The reference that a resolved config asks for; None without one. `model` is the searched one, with its layers routed.

    Raises InputError for a model of another vocabulary, a context beyond the reference's positions, and a file that is none.
    """
    if config.reference is None:
        return None
    head = Head(model)
    if config.reference.endswith(SUFFIX):
        file = ReferenceFile(config.reference, model.n_vocabulary)
        return References(head, Table(file, Passes(model, None, "self")), {"file": file_sha256(file.path)})
    if config.reference == SELF:
        context = config.reference_context or min(MOST_SELF_CONTEXT, model.n_positions - 1 - n_front)
        check_context("reference_context", SELF, model, context, n_front)
        return References(head, Passes(model, context, SELF), {"self": context})
    other = read_checkpoint(config.reference)
    device = config.device if config.local else "cpu"
    speaker = load_model(other, "float64" if config.dtype == "float64" else "float32", device)
    check_vocabulary(config.reference, other, speaker, checkpoint, model)
    if config.reference_context is not None:
        check_context("reference_context", config.reference, speaker, config.reference_context, n_front)
    identity: dict[str, Any] = {"model": other.fingerprint}
    if config.reference_context is not None:
        identity["context"] = config.reference_context
    return References(head, Passes(speaker, config.reference_context, config.reference), identity)


def check_vocabulary(name: str, other: Checkpoint, speaker: OracleModel, checkpoint: Checkpoint, model: OracleModel) -> None:
    """Raises InputError where a reference's tokens are not the searched model's."""
    if speaker.n_vocabulary != model.n_vocabulary:
        raise InputError(
            f"a reference has the vocabulary of the searched model, {model.n_vocabulary:,} tokens; {name} has "
            f"{speaker.n_vocabulary:,}"
        )
    if other.tokenizer_json is None or checkpoint.tokenizer_json is None or other.tokenizer_json == checkpoint.tokenizer_json:
        return
    mine, theirs = (load_tokenizer(text).get_vocab(True) for text in (checkpoint.tokenizer_json, other.tokenizer_json))
    if mine != theirs:
        token = min(mine.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))[0]
        raise InputError(
            f"a reference has the vocabulary of the searched model; {name} has other tokens: {token!r} is "
            f"{mine.get(token, 'none')} in the searched model and {theirs.get(token, 'none')} in the reference"
        )


def check_context(option: str, name: str, model: OracleModel, context: int, n_front: int) -> None:
    """Raises InputError for a context beyond what a reference has positions for."""
    most = model.n_positions - 1 - n_front
    if context > most:
        raise InputError(f"`{option}` must be at most {most}, what the reference {name} has positions for; got {context}")


def with_references(units: Iterable[Unit], finished: Collection[int], references: References) -> Iterator[Unit]:
    """The units that are not finished, each window with its reference."""
    history = History(references.source.context)
    for unit in units:
        windows = []
        for window in unit.sequences:
            before = history.before(window)
            if unit.index not in finished:
                windows.append(replace(window, passed=None, reference=references.of(window, before)))
        if windows:
            yield replace(unit, sequences=tuple(windows))


class History:
    """The tokens of a document before each of its windows, which come in order, none left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held, self._first = np.empty(0, dtype=np.int32), 0  # tokens of the document, and the place of the first of them

    def before(self, window: Window) -> np.ndarray:
        """The last tokens of the document before this window, `most` at most."""
        if window.opens_document:
            self._held = np.empty(0, dtype=np.int32) if window.passed is None else window.passed
            self._first = 0
        before = self._held[: window.start - self._first]
        assert self._first + len(before) == window.start, "windows come in order"
        before = before[max(0, len(before) - self._most) :]
        self._held = np.concatenate([before, window.token_ids[window.n_front :]])
        self._first = window.start - len(before)
        return before
