"""Experts that tokens took, as patterns of a run over a table of experts: which of its branches each set is.

Over `sets:` a set is a branch by its numbers. Over `top:` and `ranks:` branches are ranks at a token's own states, which no file
tells: there a file is read where it holds what the model's own router takes, and refused elsewhere.

Axes: N the run's positions, L routed layer, k experts of a token.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import TableKind
from duo_oracle.results.store.expert_routes import NO_EXPERT, ExpertRoutes, read_expert_routes
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.route_files import Routes, rows_of_positions

_LAST = np.iinfo(np.int16).max  # behind every expert


def expert_patterns(
    file: str | os.PathLike[str], run: StoredRun, own_NLk: np.ndarray, own_codes_NL: np.ndarray, name: str | None = None
) -> Routes:
    """The patterns of a file of experts at the run's positions. `own_NLk` is what the model's own router takes there, and
    `own_codes_NL` the branches that this is, 0 where it is none.

    Raises InputError as `read_expert_routes`, for other positions or layers than the run's, and for a set that is no branch."""
    path = Path(os.fspath(file))
    routes = read_expert_routes(file)
    row_N = _rows(path, routes, run, len(own_NLk))
    took_NLk = _sorted(_of_layers(path, routes.experts_RLk, run)[row_N])
    if run.table.kind is TableKind.SETS:
        codes_NL = np.zeros(took_NLk.shape[:2], dtype=np.uint8)
        for branch in run.table.branches:
            codes_NL[_same(took_NLk, _sorted(np.array(run.table.chosen(branch), dtype=np.int16)[None, None]))] = branch
        said = f"is no branch of {run.table.spec}"
    else:
        codes_NL = np.where(_same(took_NLk, _sorted(own_NLk)), own_codes_NL, 0).astype(np.uint8)
        said = (
            f"is not what the model's own router takes there as a branch of {run.table.spec}, whose ranks no file tells "
            "(search `branches='sets:...'`)"
        )
    unknown = np.argwhere(codes_NL == 0)
    if len(unknown):
        at, letter = unknown[0]
        experts = "+".join(str(expert) for expert in took_NLk[at, letter] if expert != _LAST) or "no expert"
        raise InputError(f"{path} row {row_N[at]}, layer {run.layers[letter]}: {experts} {said}")
    return Routes(name or path.stem, codes_NL)


def _rows(path: Path, routes: ExpertRoutes, run: StoredRun, n_positions: int) -> np.ndarray:
    if routes.sequence_R is not None and routes.position_R is not None:
        return rows_of_positions(path, routes.sequence_R, routes.position_R, run)
    if len(routes.experts_RLk) != n_positions:
        raise InputError(
            f"{path}: rows without sequence and position are the run's {n_positions:,} scored positions in order; it has "
            f"{len(routes.experts_RLk):,} rows"
        )
    return np.arange(n_positions)


def _of_layers(path: Path, experts_RLk: np.ndarray, run: StoredRun) -> np.ndarray:
    """The routed layers of a file that has these, or all of the model's."""
    n_layers = experts_RLk.shape[1]
    if n_layers == run.n_letters:
        return experts_RLk
    if n_layers == run.depth:
        return experts_RLk[:, list(run.layers)]
    of_all = f", or all {run.depth} of the model" if run.depth is not None else ""
    raise InputError(f"{path}: rows have the run's {run.n_letters} routed layers{of_all}; they have {n_layers}")


def _sorted(experts_NLk: np.ndarray) -> np.ndarray:
    """Sets in one order, none last."""
    return np.sort(np.where(experts_NLk == NO_EXPERT, _LAST, experts_NLk).astype(np.int16), axis=2)


def _same(left_NLk: np.ndarray, right_NLk: np.ndarray) -> np.ndarray:
    """Where two sets in order are one: bool (N, L)."""
    widest = max(left_NLk.shape[2], right_NLk.shape[2])
    left, right = (
        np.pad(one, ((0, 0), (0, 0), (0, widest - one.shape[2])), constant_values=_LAST) for one in (left_NLk, right_NLk)
    )
    return (left == right).all(axis=2)
