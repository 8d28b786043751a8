"""A mixture's own router, or routes of a file, beside the patterns that cost as much: regret, rank, the mean and the best fixed.

Each figure stands beside the same on labels drawn from the model as it routes itself, for which its own routing is what the labels
came from: what a figure on real labels shows beyond that is no selection bias. Own minus mean never looks for a best one.

Axes: N positions, Y labels (the real one first), P patterns of equal cost, D documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, pattern_costs
from duo_oracle.oracle.budgets import Budget, BudgetKind
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.scorer import scored
from duo_oracle.oracle.model import token_ids_on
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.results.answers.controls import Cell, Section
from duo_oracle.results.statistics.baselines import means_on_others
from duo_oracle.results.statistics.intervals import Estimate, bootstrap
from duo_oracle.results.store.expert_patterns import expert_patterns
from duo_oracle.results.store.expert_routes import is_expert_file
from duo_oracle.results.store.route_files import Routes, read_routes
from duo_oracle.search.job.own_experts import own_experts_of
from duo_oracle.search.job.unit import scorer_of
from duo_oracle.search.rerun.opened import OpenedRun

SAMPLE, DRAWS = 256, 8
_PLACES = 64  # positions whose losses are held at once


@dataclass(frozen=True)
class _Beside:
    """What is known of a position under every label, in columns (N, Y)."""

    own_NY: np.ndarray
    least_NY: np.ndarray
    mean_NY: np.ndarray
    below_NY: np.ndarray  # share of the patterns that lose less, half of those that lose as much


def routes_of_file(file: str, opened: OpenedRun, name: str | None = None) -> Routes:
    """The patterns of a route file at the positions of a run over experts: of patterns in the run's letters, or of experts.

    Raises InputError as `read_routes` and `expert_patterns`."""
    if not is_expert_file(file):
        return read_routes(file, opened.run, name)
    own = own_experts_of(opened.model, opened.sequences).experts_RLk
    return expert_patterns(file, opened.run, own, opened.own_routes[0], name)


def own_router(opened: OpenedRun, sample: int = SAMPLE, seed: int = 0, routes: Routes | None = None) -> Section:
    """The own router of a run over a table of experts, or `routes`, against at most `sample` patterns of a position's own cost
    (all, where there are no more; else drawn, and the least of them stands for the oracle).

    Raises InputError for a run over letters, in another context than full, and of a model that spends what no pattern costs.
    """
    run, own_cost_N = opened.run, opened.own_routes[1]
    if run.context != "full":
        raise InputError(f"a mixture's routers are compared in the context full; {run.place} has {run.context}")
    start = 0
    parts: list[_Beside] = []
    fixed: list[tuple[np.ndarray, np.ndarray]] = []
    documents: list[str] = []
    drawn, n_patterns = NullLabels(DRAWS, int(run.identity["seed"])), []
    for window in opened.sequences:
        token_id_T = token_ids_on(opened.model.device, window.token_ids)
        if routes is None:
            cost_N = own_cost_N[start : start + window.n_positions]
            took_NL = np.full((len(cost_N), run.n_letters), Branch.BIG, dtype=np.uint8)
        else:
            took_NL = routes.branches_NL[start : start + window.n_positions]
            cost_N = pattern_costs(took_NL, run.table.branches)
        start += window.n_positions
        for cost in np.unique(cost_N).tolist():
            patterns_PL = _patterns(opened, cost, sample, seed)
            n_patterns.append(len(patterns_PL))
            place_N = np.flatnonzero(cost_N == cost)
            found, loss_NP = _beside(opened, window, token_id_T, place_N, took_NL[place_N], patterns_PL, drawn)
            parts.append(found)
            fixed.append((loss_NP, np.full(len(place_N), cost)))
            documents += [window.document] * len(place_N)
    own_NY, least_NY, mean_NY, below_NY = (np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES)
    document_N = np.array(documents)
    name = "own" if routes is None else routes.name
    rows = [
        _row("loss of its own routing" if routes is None else "loss of its routing", own_NY, document_N),
        _row(f"regret: {name} - best of equal cost", own_NY - least_NY, document_N),
        _row(f"{name} - mean of equal cost", own_NY - mean_NY, document_N),
        _row("percentile: share of equal cost that loses less", below_NY, document_N),
    ]
    costs = {int(cost_N[0]) for _, cost_N in fixed}
    note = "on drawn labels: of the model as it routes itself, 8 a position; the difference is paired"
    if len(costs) == 1 and max(n_patterns) == _space(opened, min(costs)).size and len(set(documents)) > 1:
        fixed_N = _best_fixed(np.concatenate([loss_NP for loss_NP, _ in fixed]), document_N)
        gap = bootstrap(np.stack([fixed_N - own_NY[:, 0], fixed_N - least_NY[:, 0]], axis=1), document_N)
        rows.append((f"best fixed of equal cost (other documents) - {name}", gap[0], None, None))
        closed = gap[0].mean / gap[1].mean if gap[1].mean > 0 else None
        rows.append((f"share of the gap from it to the oracle that {name} closes", closed, None, None))
    else:
        note += "; no fixed pattern of equal cost: tokens spend differently, patterns are drawn, or there is one document"
    said = f"{min(costs)}" if len(costs) == 1 else f"{min(costs)}-{max(costs)}"
    who = "the model's own router" if routes is None else f"the routes {name}"
    title = f"{who} among patterns of equal cost ({said} experts a token), nats per token [95%]; context full"
    if max(n_patterns) == sample:
        note += f"; at most {sample} patterns of a cost, drawn: the best is of these"
    return Section(name, title, ("", "real labels", "drawn labels", "difference"), tuple(rows), note)


_NAMES = ("own_NY", "least_NY", "mean_NY", "below_NY")


def _space(opened: OpenedRun, cost: int) -> SearchSpace:
    try:
        return SearchSpace(opened.run.n_letters, opened.run.table.branches, Budget(BudgetKind.EXACT, cost))
    except InputError:
        raise InputError(
            f"the model's own router spends {cost} experts on a token, which no pattern of {opened.run.table.spec} costs"
        ) from None


def _patterns(opened: OpenedRun, cost: int, sample: int, seed: int) -> np.ndarray:
    """The patterns of a cost, uint8 (P, L), in their order; some of them, drawn, where there are more than `sample`."""
    space = _space(opened, cost)
    if space.size > sample:
        return space.sample_distinct(sample, np.random.default_rng((seed, cost)))
    return np.array([pattern.branches for pattern in space], dtype=np.uint8)


def _beside(
    opened: OpenedRun,
    window: Window,
    token_id_T: torch.Tensor,
    place_N: np.ndarray,
    took_NL: np.ndarray,
    patterns_PL: np.ndarray,
    drawn: NullLabels,
) -> tuple[_Beside, np.ndarray]:
    """The figures of a window's places, which took these patterns, and every pattern's loss of the real label, float64 (N, P)."""
    scorer = scorer_of(opened.model, window, token_id_T, opened.problem, drawn)
    n_every = 1 + len(patterns_PL)
    columns: list[list[np.ndarray]] = [[], [], [], []]
    real: list[np.ndarray] = []
    for start in range(0, len(place_N), _PLACES):
        some_N = place_N[start : start + _PLACES]
        n_labels = scorer.n_labels
        every_NPL = np.concatenate(
            [took_NL[start : start + _PLACES, None], np.broadcast_to(patterns_PL, (len(some_N), *patterns_PL.shape))], axis=1
        )
        row_R, label_R, pattern_R = (axis.ravel() for axis in np.indices((len(some_N), n_labels, n_every)))
        loss_R = scored(scorer, some_N[row_R], every_NPL[row_R, pattern_R], label_R)
        loss_NYP = loss_R.reshape(len(some_N), n_labels, n_every)
        own_NY, loss_NYP = loss_NYP[..., 0], loss_NYP[..., 1:]
        tie_NY1 = 1e-6 * (1 + np.abs(own_NY))[..., None]
        lower = loss_NYP < own_NY[..., None] - tie_NY1
        equal = np.abs(loss_NYP - own_NY[..., None]) <= tie_NY1
        found = (own_NY, loss_NYP.min(axis=2), loss_NYP.mean(axis=2), (lower + 0.5 * equal).mean(axis=2))
        for column, values in zip(columns, found, strict=True):
            column.append(values)
        real.append(loss_NYP[:, 0])
    return _Beside(*(np.concatenate(column) for column in columns)), np.concatenate(real)


def _row(what: str, value_NY: np.ndarray, document_N: np.ndarray) -> tuple[Cell, ...]:
    real_N, null_N = value_NY[:, 0], value_NY[:, 1:].mean(axis=1)
    found: list[Estimate] = bootstrap(np.stack([real_N, null_N, real_N - null_N], axis=1), document_N)
    return (what, *found)


def _best_fixed(loss_NP: np.ndarray, document_N: np.ndarray) -> np.ndarray:
    """Every position's loss of the pattern that is best on the other documents, (N,)."""
    of_N, mean_DP = means_on_others(loss_NP, document_N)
    return loss_NP[np.arange(len(loss_NP)), mean_DP.argmin(axis=1)[of_N]]
