"""A run's positions read back as the search had them: its sequences, unit by unit, and what was chosen for their tokens.

Axes: N tokens, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.results.store.positions import Span, numbers, read_paths, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.results.store.windows import front_of, warm_tokens
from duo_oracle.search.job.routed import RoutedSequence


@dataclass(frozen=True)
class Chosen:
    """The oracle paths of one budget."""

    loss_N: np.ndarray
    loss_full_N: np.ndarray
    branches_NL: np.ndarray
    certified_N: np.ndarray

    def at(self, rows: slice) -> Chosen:
        return Chosen(self.loss_N[rows], self.loss_full_N[rows], self.branches_NL[rows], self.certified_N[rows])


@dataclass(frozen=True)
class Group:
    """Some sequences of the run, and what it stored of their tokens, sequence after sequence."""

    sequences: list[Window]
    chosen: dict[str, Chosen]  # by budget

    @property
    def document_N(self) -> np.ndarray:
        return np.concatenate([[sequence.document] * sequence.n_positions for sequence in self.sequences])

    def rows(self) -> Iterator[tuple[Window, slice]]:
        """Every sequence, and its rows among the group's tokens."""
        start = 0
        for sequence in self.sequences:
            yield sequence, slice(start, start + sequence.n_positions)
            start += sequence.n_positions


def read_groups(run: StoredRun, budgets: tuple[str, ...] = (), max_sequences: int | None = None) -> Iterator[Group]:
    """The run's sequences, as many together as one unit of its search held, with the paths of `budgets`."""
    tokens = read_tokens(run, ("document", "token_id", "target_id", "context_pattern", "warm_ids"))
    chosen = {
        text: Chosen(
            numbers(rows["loss"]),
            numbers(rows["loss_full"]),
            branches_of(rows["pattern"], run.table),
            rows["certified"].to_numpy(zero_copy_only=False),
        )
        for text, rows in read_paths(run, tokens, budgets, ("loss", "loss_full", "pattern", "certified")).items()
    }
    token_id_N, target_id_N = tokens["token_id"].to_numpy(), tokens["target_id"].to_numpy()
    context_NL = branches_of(tokens["context_pattern"], run.table) if run.parsed_context.kind is ContextKind.ROUTER else None

    n_front = len(front_of(run))

    def sequence_of(span: Span) -> Window:
        scored = token_id_N[span.rows]
        warm = warm_tokens(run, span.sequence, span.first_position, tokens["warm_ids"][span.rows.start].as_py())
        token_ids = np.concatenate([warm, scored, target_id_N[span.rows.stop - 1 : span.rows.stop]]).astype(np.int32)
        window = Window(span.sequence, span.document, token_ids, len(warm), n_front)
        return window if context_NL is None else RoutedSequence.of(window, context_NL[span.rows])

    spans, size = spans_of(tokens)[:max_sequences], run.manifest.unit_sequences
    for first in range(0, len(spans), size):
        members = spans[first : first + size]
        rows = slice(members[0].rows.start, members[-1].rows.stop)
        yield Group([sequence_of(span) for span in members], {text: found.at(rows) for text, found in chosen.items()})
