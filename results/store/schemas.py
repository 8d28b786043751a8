"""The Arrow tables of a run: how the search's records become rows of the columns of `results/store/columns.py`.

Knows nothing of files, models or strategies. Losses are nats. Every schema carries its version and the run's id in its
metadata, so that a part copied away from its run still says what it is.

Axes: R rows (position x budget, or trial), N positions, P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.branches import DUO, BranchTable, pattern_costs
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, to_array, to_strings
from duo_oracle.oracle.records import OraclePaths, PatternLosses, Trials
from duo_oracle.oracle.reference import Reference
from duo_oracle.results.store.columns import COLUMNS, SCHEMA_VERSION


def schema(table: str, run_id: str) -> pa.Schema:
    """The columns of `table`, with schema version and run id as metadata."""
    metadata = {"duo_oracle.table": table, "duo_oracle.schema_version": str(SCHEMA_VERSION), "duo_oracle.run_id": run_id}
    return pa.schema([(column.name, column.type) for column in COLUMNS[table]], metadata=metadata)


def branches_of(patterns: pa.ChunkedArray, table: BranchTable = DUO) -> np.ndarray:
    """branches_RL of a pattern column. Each distinct pattern is parsed once. Raises InputError for letters of another table."""
    codes = patterns.combine_chunks().dictionary_encode()
    distinct_PL = to_array(RoutingPattern.parse(text, table=table) for text in codes.dictionary.to_pylist())
    return distinct_PL[codes.indices.to_numpy()]


def tokens_table(
    run_id: str,
    sequence: int,
    document: str,
    token_ids: np.ndarray,
    texts: Sequence[str] | None = None,
    mask_TL: np.ndarray | None = None,
    warm_ids: Sequence[int] | np.ndarray = (),
    reference: Reference | None = None,
    letters: str = DUO.letters,
) -> pa.Table:
    """The tokens rows of one sequence: a row for every token of `token_ids` but the last, which is only a target. The first stands
    behind `warm_ids`, the tokens of its window's text that are run and not scored.

    `texts[i]` is how token i reads; without it, and for ids past its end, the two text columns are null. `mask_TL` holds a
    row per scored position, what a router chose there; without it, context_pattern is null. Nor has a run without a reference what
    it says of each position.
    """
    ids = np.asarray(token_ids, dtype=np.int32)
    n_scored = len(ids) - 1
    n_warm = len(warm_ids)
    position_N = np.arange(n_warm, n_warm + n_scored, dtype=np.int32)
    warm = [np.asarray(warm_ids, dtype=np.int32)] if n_warm else [None]
    strings = [texts[i] if texts is not None and i < len(texts) else None for i in ids.tolist()]
    columns = [
        np.full(n_scored, sequence, np.int32),
        pa.array([document] * n_scored, pa.string()),
        position_N,
        ids[:-1],
        pa.array(strings[:-1], pa.string()),
        ids[1:],
        pa.array(strings[1:], pa.string()),
        pa.array([None] * n_scored if mask_TL is None else to_strings(mask_TL, letters), pa.string()),
        position_N,
        pa.array([*warm, *[None] * (n_scored - 1)], pa.list_(pa.int32())),
        *_of_reference(n_scored, reference),
    ]
    return _table("tokens", run_id, columns)


def paths_table(run_id: str, sequence: int, paths: OraclePaths, budgets: Sequence[Budget], table: BranchTable = DUO) -> pa.Table:
    """The paths rows of one sequence, by position and then by budget in the run's order; `paths.budget_R` indexes `budgets`."""
    order_R = np.lexsort((paths.budget_R, paths.position_R))
    branches_RL = paths.branches_RL[order_R]
    loss_R, full_R, cheapest_R = paths.loss_R[order_R], paths.loss_full_R[order_R], paths.loss_cheapest_R[order_R]
    null_gain_R, index_R = paths.null_gain_R[order_R], paths.budget_R[order_R]
    columns = [
        np.full(len(order_R), sequence, np.int32),
        paths.position_R[order_R],
        _budget_column(index_R, budgets),
        *_bound_columns(index_R, budgets, branches_RL.shape[1] * max(1, table.dearest)),
        *_pattern_columns(branches_RL, table),
        loss_R,
        full_R,
        cheapest_R,
        cheapest_R - loss_R,
        paths.evaluations_R[order_R],
        paths.certified_R[order_R],
        _null_where_nan(null_gain_R),
        _null_where_nan((full_R - loss_R) - null_gain_R),
        _null_where_nan(paths.null_difficulty_R[order_R]),
        _null_where_nan(paths.null_above_R[order_R]),
        _null_where_nan(paths.entropy_full_R[order_R]),
        paths.leaves_R[order_R],
        *_reference_columns(paths, order_R, table),
        *_own_columns(paths, order_R, table),
        _null_where_nan(np.where(paths.certified_R, 0.0, paths.within_R)[order_R]),
    ]
    return _table("paths", run_id, columns)


def losses_table(run_id: str, sequence: int, block: PatternLosses, budgets: Sequence[Budget], table: BranchTable = DUO) -> pa.Table:
    """The losses rows of one block, position by position. The patterns are codes into one dictionary per block."""
    n_positions, n_patterns = block.loss_NP.shape
    n_rows = n_positions * n_patterns
    strings, cost_P = _pattern_strings(block.branches_PL.tobytes(), *block.branches_PL.shape, table)
    codes = np.tile(np.arange(n_patterns, dtype=np.int32), n_positions)
    budget = None if block.budget is None else str(budgets[block.budget])
    columns = [
        np.full(n_rows, sequence, np.int32),
        np.repeat(block.position_N.astype(np.int32), n_patterns),
        pa.nulls(n_rows, pa.string()) if budget is None else pa.repeat(pa.scalar(budget, pa.string()), n_rows),
        pa.DictionaryArray.from_arrays(codes, strings),
        np.tile(cost_P, n_positions),
        block.loss_NP.ravel(),
    ]
    return _table("losses", run_id, columns)


def trials_table(
    run_id: str, sequence: int, trials: Trials, budgets: Sequence[Budget], number_R: np.ndarray, table: BranchTable = DUO
) -> pa.Table:
    """The trials rows of one block in its order; `number_R` is each trial's place at its position and budget."""
    failed_R = np.array([bool(message) for message in trials.message_R], dtype=bool)
    columns = [
        np.full(len(failed_R), sequence, np.int32),
        trials.position_R,
        _budget_column(trials.budget_R, budgets),
        number_R.astype(np.int32),
        *_pattern_columns(trials.branches_RL, table),
        pa.array(trials.loss_R.astype(np.float32), mask=failed_R),
        pa.array(np.where(failed_R, "failed", "complete").tolist(), pa.string()),
        pa.array([message or None for message in trials.message_R], pa.string()),
    ]
    return _table("trials", run_id, columns)


def _table(name: str, run_id: str, columns: list) -> pa.Table:
    wanted = schema(name, run_id)
    arrays = []
    for values, field in zip(columns, wanted, strict=True):
        array = values if isinstance(values, pa.Array) else pa.array(values)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=wanted)


def _budget_column(budget_R: np.ndarray, budgets: Sequence[Budget]) -> pa.Array:
    return pa.array([str(budget) for budget in budgets], pa.string()).take(pa.array(budget_R.astype(np.int32)))


def _bound_columns(budget_R: np.ndarray, budgets: Sequence[Budget], most: int) -> tuple[np.ndarray, np.ndarray]:
    bounds_K2 = np.array([budget.bounds(most) for budget in budgets], dtype=np.int16)
    return bounds_K2[budget_R, 0], bounds_K2[budget_R, 1]


def _pattern_columns(branches_RL: np.ndarray, table: BranchTable) -> list:
    """pattern, cost, n_big, n_small and n_skip: a big layer costs 1, nothing else does. Of experts, but the first two."""
    if table.of_experts:
        strings, cost_R = pa.array(to_strings(branches_RL, table.letters), pa.string()), pattern_costs(branches_RL, table.branches)
        return [strings, cost_R.astype(np.int16), *[pa.nulls(len(branches_RL), pa.int16())] * 3]
    n_big_R, n_small_R, n_skip_R = (branch_counts(branches_RL, branch) for branch in (Branch.BIG, Branch.SMALL, Branch.SKIP))
    return [pa.array(to_strings(branches_RL), pa.string()), n_big_R, n_big_R, n_small_R, n_skip_R]


def _of_reference(n_scored: int, reference: Reference | None) -> list:
    if reference is None:
        return [pa.nulls(n_scored, pa.float32())] * 2
    return [reference.loss_target_N, reference.entropy_N]


def _reference_columns(paths: OraclePaths, order_R: np.ndarray, table: BranchTable) -> list:
    """ref_pattern, ref_cost, ref_expected_gain and ref_loss, null without a reference."""
    if not paths.has_reference:
        kinds = (pa.string(), pa.int16(), pa.float32(), pa.float32())
        return [pa.nulls(len(order_R), kind) for kind in kinds]
    branches_RL = paths.ref_branches_RL[order_R]
    pattern_R, cost_R, *_ = _pattern_columns(branches_RL, table)
    return [pattern_R, cost_R, paths.ref_expected_gain_R[order_R], paths.ref_loss_R[order_R]]


def _own_columns(paths: OraclePaths, order_R: np.ndarray, table: BranchTable) -> list:
    """own_pattern and own_cost, null where the branches are no experts."""
    if not paths.has_own:
        return [pa.nulls(len(order_R), pa.string()), pa.nulls(len(order_R), pa.int16())]
    own_RL = paths.own_branches_RL[order_R]
    outside_R = (own_RL == 0).any(axis=1)
    return [pa.array(to_strings(own_RL, table.letters), pa.string(), mask=outside_R), paths.own_cost_R[order_R].astype(np.int16)]


@lru_cache(maxsize=4)
def _pattern_strings(data: bytes, n_patterns: int, n_letters: int, table: BranchTable) -> tuple[pa.Array, np.ndarray]:
    # The same block of patterns comes again for every position: its strings are made once.
    branches_PL = np.frombuffer(data, dtype=np.uint8).reshape(n_patterns, n_letters)
    cost_P = pattern_costs(branches_PL, table.branches).astype(np.int16)
    return pa.array(to_strings(branches_PL, table.letters), pa.string()), cost_P


def _null_where_nan(values_R: np.ndarray) -> pa.Array:
    return pa.array(values_R.astype(np.float32), mask=np.isnan(values_R))
