"""A search run's tables as plain arrays for a router that learns from an oracle: patterns and losses of every position.

Axes: T token, R evaluated patterns of any positions, L layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.router import Router
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import Context, ContextKind
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results import load
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.positions import datasets_of, numbers, read_tokens, spans_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.schemas import branches_of
from duo_oracle.search.job.routed import RoutedSequence, routed
from duo_oracle.search.rerun.opened import OpenedRun, check_model, open_run
from duo_oracle.search.rerun.pattern_tables import pattern_losses
from duo_oracle.search.rerun.references import has_reference, with_reference
from duo_oracle.search.rerun.replay import read_groups

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one sequence: the places of scored positions, counted from its first, branches_RL and loss_R."""


@dataclass(frozen=True)
class RunLabels:
    """What runs teach a router: iterated, the evaluated patterns of every sequence, in order; `found` scores more of them.

    Iterating raises InputError, one line, for a run that kept neither losses nor trials, and for one in which a position's earlier
    tokens had no one routing (context `same`, or several budgets in context `committed`).
    """

    runs: tuple[StoredRun, ...]
    model: str

    def __iter__(self) -> Iterator[PatternLabels]:
        for run in self.runs:
            run.check_letters("what a router is taught by")
            if not {"losses", "trials"} & set(run.tables):
                raise InputError(f"{run.place} kept no losses of patterns; search with `keep='trials'` or `keep='losses'`")
            kind = run.parsed_context.kind
            if kind is ContextKind.SAME or (kind is ContextKind.COMMITTED and len(run.budgets) > 1):
                had = f"context {run.context}, budgets {', '.join(run.budgets)}"
                raise InputError(f"{run.place}: the earlier tokens of a position must have had one routing; it has {had}")
        return (labels for run in self.runs for labels in _of_run(run))

    def found(self, target: str, sample: int, seed: int, router: Router | None) -> Iterator[PatternLabels]:
        """As `Teacher` of `models/router_training/labels.py` says."""
        for run in self.runs:
            run.check_letters("what a router is taught by")
            opened = open_run(run, self.model)
            if target == "reference" and not has_reference(opened):
                raise InputError(f"{run.place} was searched without a reference (search with `reference='self'`)")
            windows = with_reference(opened, opened.sequences) if target == "reference" else opened.sequences
            yield from _scored(opened, windows, sample, seed, router)


def read_labels(paths: tuple[str, ...], model: str) -> RunLabels:
    """What the runs teach. Raises InputError for a run of another model."""
    checkpoint = read_checkpoint(model)
    runs = tuple(load(path) for path in paths)
    for run in runs:
        check_model(run, checkpoint, model)
    return RunLabels(runs, model)


def _scored(opened: OpenedRun, windows: Iterable[Window], sample: int, seed: int, router: Router | None) -> Iterator[PatternLabels]:
    """The losses of random patterns at the windows' positions, expected by the reference where the windows have one."""
    problem, kind = opened.problem, opened.run.parsed_context.kind
    if router is None and kind in (ContextKind.SAME, ContextKind.COMMITTED):
        raise InputError(
            f"{opened.run.place}: losses are found where the earlier tokens have one routing: context full, cheapest, a pattern or "
            f"a router; it has {opened.run.context}"
        )
    if router is not None:
        problem = replace(problem, context=Context(ContextKind.ROUTER, router=router.spec))
        windows = routed(router, opened.module, windows, problem.skip, router.fingerprint or "")
    space = SearchSpace(problem.n_letters, problem.branches)
    for window in windows:
        branches_PL = space.sample_distinct(sample, np.random.default_rng((seed, 6, window.index)))
        real_NP, expected_NP = pattern_losses(opened.model, problem, window, branches_PL)
        loss_NP = real_NP if expected_NP is None else expected_NP
        place_R, pattern_R = (axis.ravel() for axis in np.mgrid[: window.n_positions, : len(branches_PL)])
        context_NL = np.zeros((window.n_positions, problem.n_letters), dtype=np.uint8)
        if isinstance(window, RoutedSequence):
            context_NL = window.mask_NL
        elif problem.context.pattern is not None:
            context_NL[:] = problem.context.pattern.branches
        mask_TL = window.run_mask(context_NL)
        yield PatternLabels(
            window.token_ids, mask_TL, place_R + window.n_warm, branches_PL[pattern_R], loss_NP.ravel(), window.n_warm
        )


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
    trials_of = datasets_of(run, "trials")
    first_of = {span.sequence: span.first_position for span in spans_of(read_tokens(run))}

    def of_sequence(sequence: int) -> Rows:
        # A failed trial has no loss.
        mine = (pc.field("sequence") == sequence) & pc.field("loss").is_valid()
        rows = trials_of[sequence].to_table(columns=["position", "pattern", "loss"], filter=mine)
        place_R = rows["position"].to_numpy().astype(np.int64) - first_of[sequence]
        return place_R, branches_of(rows["pattern"]), numbers(rows["loss"])

    return of_sequence
