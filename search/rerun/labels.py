"""A search run's tables as plain arrays for a router that learns from an oracle: patterns and losses of every position.

Axes: T token, R evaluated patterns of any positions, L layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow.compute as pc

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.results import load
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.positions import numbers, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.rerun.opened import check_model
from duo_oracle.search.rerun.replay import read_groups

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one sequence: the places of scored positions, counted from its first, branches_RL and loss_R."""


def read_labels(paths: tuple[str, ...], model: str) -> Iterator[PatternLabels]:
    """The evaluated patterns of every sequence of the runs, in order.

    Raises InputError, one line, for a run of another model, one that kept neither losses nor trials, and one in which a
    position's earlier tokens had no one routing (context `same`, or several budgets in context `committed`).
    """
    checkpoint = read_checkpoint(model)
    runs = [load(path) for path in paths]
    for run in runs:
        check_model(run, checkpoint, model)
        if not {"losses", "trials"} & set(run.tables):
            raise InputError(f"{run.place} kept no losses of patterns; search with `keep='trials'` or `keep='losses'`")
        kind = run.parsed_context.kind
        if kind is ContextKind.SAME or (kind is ContextKind.COMMITTED and len(run.budgets) > 1):
            had = f"context {run.context}, budgets {', '.join(run.budgets)}"
            raise InputError(f"{run.place}: the earlier tokens of a position must have had one routing; it has {had}")
    return (labels for run in runs for labels in _of_run(run))


def _of_run(run: StoredRun) -> Iterator[PatternLabels]:
    context, (text, *_) = run.parsed_context, run.budgets
    of_sequence = _kept(run) if "losses" in run.tables else _tried(run)
    for group in read_groups(run, (text,)):
        for sequence, rows in group.rows():
            chosen_NL = group.chosen[text].branches_NL[rows]
            if isinstance(sequence, RoutedSequence):
                chosen_NL = sequence.mask_NL
            elif context.pattern is not None:
                chosen_NL = np.tile(np.array(context.pattern.branches, dtype=np.uint8), (sequence.n_positions, 1))
            place_R, branches_RL, loss_R = of_sequence(sequence.index)
            in_window_R = place_R + sequence.n_warm
            labels = (sequence.run_mask(chosen_NL), in_window_R, branches_RL, loss_R, sequence.n_warm)
            yield PatternLabels(sequence.token_ids, *labels)


def _kept(run: StoredRun) -> Callable[[int], Rows]:
    kept = KeptLosses(run)
    (of_pass,) = kept.passes()

    def of_sequence(sequence: int) -> Rows:
        table = kept.read(sequence, of_pass)
        position_R, pattern_R = np.nonzero(~np.isnan(table.loss_NP))
        return position_R, table.branches_PL[pattern_R], table.loss_NP[position_R, pattern_R].astype(np.float64)

    return of_sequence


def _tried(run: StoredRun) -> Callable[[int], Rows]:
    trials = run.dataset("trials")
    first_of = {span.sequence: span.first_position for span in spans_of(read_tokens(run))}

    def of_sequence(sequence: int) -> Rows:
        # A failed trial has no loss.
        mine = (pc.field("sequence") == sequence) & pc.field("loss").is_valid()
        rows = trials.to_table(columns=["position", "pattern", "loss"], filter=mine)
        place_R = rows["position"].to_numpy().astype(np.int64) - first_of[sequence]
        return place_R, branches_of(rows["pattern"]), numbers(rows["loss"])

    return of_sequence
