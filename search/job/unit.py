"""Solving a unit: some whole sequences, under one resolved problem, in its context.

An exhaustive problem goes to the exact oracle; any other strategy is asked, scored and told. Knows no files and no Ray:
what is found goes to a sink.

Axes: T token, N places or tokens of a strategy, Y targets (labels, then the reference), R rows, L layer.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle import records
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullGains, NullLabels
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, FixedScorer, SameScorer, Scorer
from duo_oracle.oracle.model import OracleModel, cheapest_branch
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.records import OraclePaths, PatternLosses, concatenated, in_order, rows_of
from duo_oracle.oracle.reference import Reference
from duo_oracle.search.asking.loop import run_strategy
from duo_oracle.search.asking.pooled import PooledScorer
from duo_oracle.search.job.problem import Keep, Problem
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.strategy import Trials, build_strategy, load_strategy, parse_settings

MOST_PATTERNS = 1 << 26
"""What an exhaustive search may have to cover per token: beyond it, a token takes hours."""


def check_strategy(problem: Problem) -> None:
    """Raises InputError for a strategy that does not fit the problem: a budget without a pattern, a start outside the space."""
    for space in problem.spaces():
        if load_strategy(problem.strategy).covers_space and space.size > MOST_PATTERNS:
            raise InputError(
                f"an exhaustive search takes at most {MOST_PATTERNS:,} patterns a token; {space.n_letters} routed layers have "
                f"{space.size:,} under budget {space.budget}: route fewer (`route_layers=18-27`), or take `strategy=beam`"
            )
        strategy = build_strategy(problem.strategy, problem.settings, space, 1, np.random.default_rng(0))
    if strategy.settings.pooled and not problem.context.independent:
        raise InputError(
            "one pattern for all tokens is searched in the context same, big, small, a pattern or a router; got committed"
        )
    if strategy.settings.pooled and problem.null_draws:
        raise InputError(
            f"one pattern for all tokens is searched by their real labels alone; got `null_draws={problem.null_draws}`"
        )


def null_labels(problem: Problem, sequences: list[Window]) -> NullLabels:
    """How the sequences' null labels are drawn, each at the temperature that was fitted for its document."""
    fitted = problem.null_temperatures
    temperatures = {s.index: fitted[s.document] for s in sequences if s.document in fitted}
    return NullLabels(problem.null_draws, problem.seed, problem.null_temperature, temperatures)


class Sink(Protocol):
    """Takes what is found, sequence by sequence or interleaved. Positions are those of the text, whatever stands in front of it."""

    def paths(self, sequence: Window, paths: OraclePaths) -> None: ...

    def losses(self, sequence: Window, block: PatternLosses) -> None: ...

    def trials(self, sequence: Window, trials: records.Trials) -> None: ...


def solve_sequences(model: OracleModel, sequences: list[Window], problem: Problem, sink: Sink) -> None:
    """Find every sequence's oracle paths. The rows depend on the sequences, the model and the problem alone.

    Raises InputError for a loss that is not finite where an oracle path needs one.
    """
    tokens = [torch.from_numpy(sequence.token_ids.astype(np.int64)).to(model.device) for sequence in sequences]
    asks = not load_strategy(problem.strategy).covers_space or problem.keep is Keep.TRIALS
    found = _by_asking(model, sequences, tokens, problem, sink) if asks else _exactly(model, sequences, tokens, problem, sink)
    for sequence, in_window in zip(sequences, found, strict=True):
        paths = replace(in_window, position_R=in_window.position_R - sequence.n_front) if sequence.n_front else in_window
        _check_finite(sequence, paths)
        sink.paths(sequence, paths)


def _exactly(model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, sink: Sink) -> list[OraclePaths]:
    by_index, kept = {sequence.index: sequence for sequence in sequences}, problem.keep is Keep.LOSSES
    oracle = ExactOracle(
        model,
        problem.branches,
        problem.budgets,
        problem.skip,
        null_labels(problem, sequences),
        problem.memory_bytes,
        (lambda index, block: sink.losses(by_index[index], _in_text(by_index[index], block))) if kept else None,
        problem.by_reference,
    )
    references = _references(sequences)
    if problem.context.kind is ContextKind.COMMITTED:
        return oracle.in_committed_context([s.index for s in sequences], tokens, [s.n_warm for s in sequences], references)
    pairs = list(zip(sequences, tokens, strict=True))
    if problem.context.kind is ContextKind.SAME:
        return [oracle.in_same_context(s.index, token_id_T, s.n_warm, s.reference) for s, token_id_T in pairs]
    return [oracle.in_fixed_context(s.index, ids_T, _routing(s, problem), s.n_warm, s.reference) for s, ids_T in pairs]


def _by_asking(
    model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, sink: Sink
) -> list[OraclePaths]:
    null, cheapest = null_labels(problem, sequences), cheapest_branch(model)
    if problem.context.kind is ContextKind.COMMITTED:
        return _by_asking_committed(model, sequences, tokens, problem, null, sink)
    scorers = [scorer_of(model, s, t, problem, null) for s, t in zip(sequences, tokens, strict=True)]
    if parse_settings(problem.strategy, problem.settings).pooled:
        groups: list[tuple[Scorer, list[Window]]] = [(PooledScorer(scorers), sequences)]
    else:
        groups = [(scorer, [sequence]) for scorer, sequence in zip(scorers, sequences, strict=True)]
    found = []
    for scorer, members in groups:
        position_N = np.concatenate([np.arange(s.n_warm, s.n_warm + s.n_positions) for s in members])
        sequence_N = [sequence for sequence in members for _ in range(sequence.n_positions)]
        parts = [_ask(scorer, problem, budget, position_N, sequence_N, sink, cheapest) for budget in range(len(problem.budgets))]
        of_sequence_N = np.repeat(np.arange(len(members)), [sequence.n_positions for sequence in members])
        for member in range(len(members)):
            rows = np.flatnonzero(of_sequence_N == member)
            found.append(in_order(concatenated([rows_of(part, rows) for part in parts])))
    return found


def scorer_of(model: OracleModel, sequence: Window, token_id_T: Tensor, problem: Problem, null: NullLabels) -> Scorer:
    """The scorer of a sequence in a context whose positions are independent."""
    if problem.context.kind is ContextKind.SAME:
        return SameScorer(model, sequence.index, token_id_T, problem.skip, null, sequence.n_warm, sequence.reference)
    routing = _routing(sequence, problem)
    return FixedScorer(model, sequence.index, token_id_T, routing, problem.skip, null, sequence.n_warm, sequence.reference)


def _routing(sequence: Window, problem: Problem) -> RoutingPattern | np.ndarray:
    """What the earlier tokens of a sequence took: one pattern, or in a router's context each its own."""
    if problem.context.pattern is not None:
        return problem.context.pattern
    assert isinstance(sequence, RoutedSequence)
    return sequence.run_mask(sequence.mask_NL)


def _references(sequences: list[Window]) -> list[Reference] | None:
    """What the reference says of every sequence; None where there is none."""
    found = [sequence.reference for sequence in sequences if sequence.reference is not None]
    assert len(found) in (0, len(sequences)), "a run has a reference for all its sequences, or for none"
    return found or None


def _in_text(sequence: Window, block: PatternLosses) -> PatternLosses:
    return replace(block, position_N=block.position_N - sequence.n_front) if sequence.n_front else block


def _by_asking_committed(
    model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, null: NullLabels, sink: Sink
) -> list[OraclePaths]:
    found: list[list[OraclePaths]] = [[] for _ in tokens]
    cheapest, references, n_warm = cheapest_branch(model), _references(sequences), [s.n_warm for s in sequences]
    for budget in range(len(problem.budgets)):
        for step in left_to_right(model, tokens, problem.skip, n_warm):
            members = [sequences[lane] for lane in step.lanes]
            known = None if references is None else step.reference(references, n_warm, step.lanes)
            scorer = CommittedScorer(model, step, [sequence.index for sequence in members], problem.skip, null, known)
            paths = _ask(scorer, problem, budget, np.full(len(members), step.position), members, sink, cheapest)
            for row, lane in enumerate(step.lanes):
                found[lane].append(rows_of(paths, np.array([row])))
            step.commit(paths.ref_branches_RL if problem.by_reference else paths.branches_RL)
    return [in_order(concatenated(parts)) for parts in found]


def _ask(
    scorer: Scorer,
    problem: Problem,
    budget: int,
    position_N: np.ndarray,
    sequence_N: list[Window],
    sink: Sink,
    cheapest: Branch,
) -> OraclePaths:
    """Run the strategy for one budget over all places of a scorer: one row per place."""
    n_places, n_labels, n_targets = scorer.n_places, scorer.n_labels, scorer.n_targets
    space = problem.spaces()[budget]
    generator = np.random.default_rng(
        (problem.seed, zlib.crc32(problem.strategy.encode()), sequence_N[0].index, int(position_N[0]), budget)
    )
    strategy = build_strategy(problem.strategy, problem.settings, space, n_places * n_targets, generator)

    def keep_trials(trials: Trials) -> None:
        place_R, target_R = np.divmod(trials.token_R, n_targets)
        for sequence in dict.fromkeys(map(id, sequence_N)):
            mine_N = np.array([id(other) == sequence for other in sequence_N])
            rows = np.flatnonzero((target_R == 0) & mine_N[place_R])
            window = sequence_N[int(np.flatnonzero(mine_N)[0])]
            sink.trials(window, _stored(trials, rows, position_N[place_R[rows]] - window.n_front, budget))

    best = run_strategy(strategy, scorer, keep_trials if problem.keep is Keep.TRIALS else None)
    loss_NY = best.loss_N.reshape(n_places, n_targets)
    small_NY, big_NY = (_uniform_losses(scorer, branch, problem.n_letters) for branch in (cheapest, Branch.BIG))
    null = NullGains.of(loss_NY[:, :n_labels, None], small_NY[:, :n_labels], big_NY[:, :n_labels])
    evaluations_N = best.evaluations_N[::n_targets].astype(np.int32)
    of_reference = {}
    if n_targets > n_labels:
        ref_branches_NL = best.branches_NL[n_labels::n_targets]
        of_reference = {
            "ref_branches_RL": ref_branches_NL,
            "ref_expected_gain_R": big_NY[:, -1] - loss_NY[:, -1],
            "ref_loss_R": scorer.score(np.arange(n_places), ref_branches_NL),
        }
    return OraclePaths(
        position_R=position_N.astype(np.int32),
        budget_R=np.full(n_places, budget, dtype=np.int16),
        branches_RL=best.branches_NL[::n_targets],
        loss_R=loss_NY[:, 0],
        loss_cheapest_R=small_NY[:, 0],
        loss_full_R=big_NY[:, 0],
        evaluations_R=evaluations_N,
        certified_R=best.chosen_from_N[::n_targets] == space.size,
        null_gain_R=null.gain_NQ[:, 0],
        null_difficulty_R=null.difficulty_NQ[:, 0],
        null_above_R=null.above_NQ[:, 0],
        entropy_full_R=np.full(n_places, np.nan),
        leaves_R=evaluations_N,
        **of_reference,
    )


def _uniform_losses(scorer: Scorer, branch: Branch, n_letters: int) -> np.ndarray:
    """Losses of the pattern that takes one branch everywhere, at every place under every target: float64 (N, Y)."""
    place_R, target_R = (axis.ravel() for axis in np.mgrid[: scorer.n_places, : scorer.n_targets])
    branches_RL = np.full((len(place_R), n_letters), branch, dtype=np.uint8)
    return scorer.score(place_R, branches_RL, target_R).reshape(scorer.n_places, scorer.n_targets)


def _stored(trials: Trials, rows: np.ndarray, position_R: np.ndarray, budget: int) -> records.Trials:
    complete_R = trials.complete_R[rows]
    return records.Trials(
        position_R=position_R.astype(np.int32),
        budget_R=np.full(len(rows), budget, dtype=np.int16),
        branches_RL=trials.branches_RL[rows],
        loss_R=np.where(complete_R, trials.loss_R[rows], np.nan),
        message_R=tuple("" if complete else "the loss is not a finite number" for complete in complete_R),
    )


def _check_finite(sequence: Window, paths: OraclePaths) -> None:
    losses = np.column_stack([paths.loss_R, paths.loss_cheapest_R, paths.loss_full_R])
    if paths.has_reference:
        of_reference = np.isfinite(np.column_stack([paths.ref_loss_R, paths.ref_expected_gain_R])).all(axis=1)
        if not of_reference.all():
            position = paths.position_R[np.flatnonzero(~of_reference)[0]]
            raise InputError(
                f"a loss is a finite number; sequence {sequence.index} ({sequence.document}), position {position} has none under "
                "the reference"
            )
    wrong = np.flatnonzero(~np.isfinite(losses).all(axis=1))
    if len(wrong):
        raise InputError(
            f"a loss is a finite number; sequence {sequence.index} ({sequence.document}), position {paths.position_R[wrong[0]]} "
            f"has {losses[wrong[0]].tolist()} for the oracle path, its cheapest pattern and all-big"
        )
