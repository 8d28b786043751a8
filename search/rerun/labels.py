"""A search run's tables as plain arrays for a router that learns from an oracle: patterns and losses of every position.

Axes: T token, R evaluated patterns of any positions, L layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.dataset as ds

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.patterns import RoutingPattern, to_array
from duo_oracle.results import load
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.rerun.replay import read_groups


def read_labels(paths: tuple[str, ...], model: str) -> Iterator[PatternLabels]:
    """The evaluated patterns of every sequence of the runs, in order.

    Raises InputError, one line, for a run of another model, one that kept neither losses nor trials, and one in which a
    position's earlier tokens had no one routing (context `same`, or several budgets in context `committed`).
    """
    fingerprint = read_checkpoint(model).fingerprint
    runs = [load(path) for path in paths]
    for run in runs:
        if run.identity["model_fingerprint"] != fingerprint:
            raise InputError(f"{run.path} was searched with another model than {model}")
        if not {"losses", "trials"} & set(run.tables):
            raise InputError(f"{run.path} kept no losses of patterns; search with --keep trials or --keep losses")
        kind = run.parsed_context.kind
        if kind is ContextKind.SAME or (kind is ContextKind.COMMITTED and len(run.budgets) > 1):
            had = f"context {run.context}, budgets {', '.join(run.budgets)}"
            raise InputError(f"{run.path}: the earlier tokens of a position must have had one routing; it has {had}")
    return (labels for run in runs for labels in _of_run(run))


def _of_run(run: StoredRun) -> Iterator[PatternLabels]:
    table = "losses" if "losses" in run.tables else "trials"
    context = run.parsed_context
    for group in read_groups(run, run.budgets, None):
        first, start = group.sequences[0].index, 0
        last = group.sequences[-1].index
        wanted = (ds.field("sequence") >= first) & (ds.field("sequence") <= last)
        rows = run.dataset(table).to_table(columns=["sequence", "position", "pattern", "loss"], filter=wanted)
        patterns = rows["pattern"].combine_chunks()
        codes = patterns.dictionary_encode() if table == "trials" else rows["pattern"].unify_dictionaries().combine_chunks()
        branches_PL = to_array(RoutingPattern.parse(pattern) for pattern in codes.dictionary.to_pylist())
        sequence_R, position_R = rows["sequence"].to_numpy(), rows["position"].to_numpy()
        loss_R, code_R = rows["loss"].to_numpy(zero_copy_only=False).astype(np.float64), codes.indices.to_numpy()
        chosen_NL = group.chosen[run.budgets[0]][1]
        for sequence in group.sequences:
            mine_R = (sequence_R == sequence.index) & np.isfinite(loss_R)  # a failed trial has no loss
            chosen_TL = chosen_NL[start : start + sequence.n_positions]
            start += sequence.n_positions
            if isinstance(sequence, RoutedSequence):
                chosen_TL = sequence.mask_TL[: sequence.n_positions]
            elif context.pattern is not None:
                chosen_TL = np.tile(np.array(context.pattern.branches, dtype=np.uint8), (sequence.n_positions, 1))
            yield PatternLabels(
                sequence.token_ids, chosen_TL, position_R[mine_R].astype(np.int64), branches_PL[code_R[mine_R]], loss_R[mine_R]
            )
