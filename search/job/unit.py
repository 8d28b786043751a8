"""Solving a unit: some whole sequences, under one resolved problem, in its context.

An exhaustive problem goes to the exact oracle; any other strategy is asked, scored and told. Knows no files and no Ray:
what is found goes to a sink.

Axes: T token, N places or tokens of a strategy, Y targets (labels, then the reference), R rows, L layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import Step, left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, FixedScorer, SameScorer, Scorer
from duo_oracle.oracle.model import OracleModel, SharesExperts, cheapest_branch, token_ids_on
from duo_oracle.oracle.patterns import RoutingPattern
from duo_oracle.oracle.records import OraclePaths, PatternLosses, concatenated, in_order, rows_of
from duo_oracle.oracle.reference import Reference
from duo_oracle.search.asking.pooled import PooledScorer
from duo_oracle.search.job.asked import Sink, ask
from duo_oracle.search.job.problem import Keep, Problem
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.job.tolerant import Quick
from duo_oracle.search.strategy import build_strategy, load_strategy, parse_settings

Decide = Callable[[Step, CommittedScorer, list[Window], int, Reference | None], OraclePaths]
"""What the tokens of one step take under one budget, by its number: a row for each of the step's."""

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


def solve_sequences(model: OracleModel, sequences: list[Window], problem: Problem, sink: Sink) -> None:
    """Find every sequence's oracle paths. The rows depend on the sequences, the model and the problem alone.

    Raises InputError for a loss that is not finite where an oracle path needs one.
    """
    tokens = [token_ids_on(model.device, sequence.token_ids) for sequence in sequences]
    asks = not load_strategy(problem.strategy).covers_space or problem.keep is Keep.TRIALS
    found = _by_asking(model, sequences, tokens, problem, sink) if asks else _exactly(model, sequences, tokens, problem, sink)
    for sequence, token_id_T, in_window in zip(sequences, tokens, found, strict=True):
        in_window = _with_own(model, token_id_T, in_window)
        paths = replace(in_window, position_R=in_window.position_R - sequence.n_front) if sequence.n_front else in_window
        _check_finite(sequence, paths)
        sink.paths(sequence, paths)


def _with_own(model: OracleModel, token_id_T: Tensor, paths: OraclePaths) -> OraclePaths:
    """The same with what a mixture's own router takes at every position, where the branches are experts."""
    if not isinstance(model, SharesExperts):
        return paths
    own_TL, cost_T = model.own_routes(token_id_T[:-1])
    return replace(paths, own_branches_RL=own_TL[paths.position_R], own_cost_R=cost_T[paths.position_R].astype(np.float64))


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
        sink.found,
    )
    references = _references(sequences)
    if problem.tolerance:
        within = _within_committed if problem.context.kind is ContextKind.COMMITTED else _within_fixed
        return within(model, sequences, tokens, problem, oracle)
    if problem.context.kind is ContextKind.COMMITTED:
        return oracle.in_committed_context([s.index for s in sequences], tokens, [s.n_warm for s in sequences], references)
    pairs = list(zip(sequences, tokens, strict=True))
    if problem.context.kind is ContextKind.SAME:
        return [oracle.in_same_context(s.index, token_id_T, s.n_warm, s.reference) for s, token_id_T in pairs]
    return [oracle.in_fixed_context(s.index, ids_T, _routing(s, problem), s.n_warm, s.reference) for s, ids_T in pairs]


def _within_fixed(
    model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, oracle: ExactOracle
) -> list[OraclePaths]:
    found = []
    null, cheapest, budgets = null_labels(problem, sequences), cheapest_branch(model), range(len(problem.budgets))
    for s, token_id_T in zip(sequences, tokens, strict=True):
        position_N = np.arange(s.n_warm, s.n_warm + s.n_positions)
        scorer = FixedScorer(model, s.index, token_id_T, _routing(s, problem), problem.skip, null, s.n_warm, s.reference)
        quick = Quick(scorer, problem, position_N, cheapest, budgets)
        rows = quick.rows
        for place_M, budget_Q in quick.still_open():
            position_M = torch.from_numpy(position_N[place_M]).to(token_id_T.device)
            rows.append(oracle.at_positions(s.index, token_id_T, scorer.context, position_M, budget_Q.tolist(), s.reference))
        found.append(in_order(concatenated(rows)))
    return found


def _within_committed(
    model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, oracle: ExactOracle
) -> list[OraclePaths]:
    null, cheapest = null_labels(problem, sequences), cheapest_branch(model)

    def decide(step: Step, scorer: CommittedScorer, members: list[Window], budget: int, known: Reference | None) -> OraclePaths:
        quick = Quick(scorer, problem, np.full(len(members), step.position), cheapest, [budget])
        done = np.flatnonzero(quick.done_NQ[:, 0])
        parts, order = list(quick.rows), [done]
        for row_M, _ in quick.still_open():
            of_rows = None if known is None else known.at(row_M)
            parts.append(oracle.at_step(step, budget, [members[row].index for row in row_M], of_rows, row_M))
            order.append(row_M)
        return rows_of(concatenated(parts), np.argsort(np.concatenate(order)))

    return _committed(model, sequences, tokens, problem, null, decide)


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
        parts = [ask(scorer, problem, budget, position_N, sequence_N, sink, cheapest) for budget in range(len(problem.budgets))]
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
    cheapest = cheapest_branch(model)

    def decide(step: Step, scorer: CommittedScorer, members: list[Window], budget: int, _: Reference | None) -> OraclePaths:
        return ask(scorer, problem, budget, np.full(len(members), step.position), members, sink, cheapest)

    return _committed(model, sequences, tokens, problem, null, decide)


def _committed(
    model: OracleModel, sequences: list[Window], tokens: list[Tensor], problem: Problem, null: NullLabels, decide: Decide
) -> list[OraclePaths]:
    """One pass per budget, the sequences side by side; what is decided at a step is what later tokens see."""
    found: list[list[OraclePaths]] = [[] for _ in tokens]
    references, n_warm = _references(sequences), [s.n_warm for s in sequences]
    for budget in range(len(problem.budgets)):
        for step in left_to_right(model, tokens, problem.skip, n_warm):
            members = [sequences[lane] for lane in step.lanes]
            known = None if references is None else step.reference(references, n_warm, step.lanes)
            scorer = CommittedScorer(model, step, [sequence.index for sequence in members], problem.skip, null, known)
            paths = decide(step, scorer, members, budget, known)
            for row, lane in enumerate(step.lanes):
                found[lane].append(rows_of(paths, np.array([row])))
            step.commit(paths.ref_branches_RL if problem.by_reference else paths.branches_RL)
    return [in_order(concatenated(parts)) for parts in found]


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
