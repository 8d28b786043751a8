"""The controls that need a run's model: all-big's calibration on the run's text, and log Z at some of its positions.

Axes: N positions, Q budgets, T token, L layer.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.results.answers.controls import Cell, Section, calibration_section
from duo_oracle.results.statistics.calibration import calibration
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.all_full import full_tokens
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.rerun.log_z import Space, log_z, routing_of
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.replay import Group, read_groups


def calibration_of_run(opened: OpenedRun) -> Section:
    """How well all-big's probabilities describe the run's text."""
    return calibration_section(calibration(full_tokens(opened.model, opened.sequences)), opened.run.words)


def log_z_of_run(opened: OpenedRun, n_positions: int, seed: int = 0) -> Section:
    """log Z at `n_positions` positions drawn from the run's, beside what the oracle gains there.

    Raises InputError for the context same.
    """
    run, problem = opened.run, opened.problem
    groups = list(read_groups(run, run.budgets))
    picked = _picked(groups, n_positions, seed)
    committed = problem.context.kind is ContextKind.COMMITTED
    questions = [(budget,) for budget in problem.budgets] if committed else [problem.budgets]
    spaces = [Space(problem.branches, budgets, problem.skip) for budgets in questions]
    log_z_NQ, oracle_NQ, full_NQ, documents = [], [], [], []
    for group in groups:
        for sequence, rows in group.rows():
            position_N = picked.get(sequence.index)
            if position_N is None:
                continue
            chosen = [group.chosen[text].at(rows) for text in run.budgets]
            found = []
            for number, space in enumerate(spaces):
                mask_NL = sequence.mask_NL if isinstance(sequence, RoutedSequence) else None
                if committed:
                    mask_NL = chosen[number].branches_NL
                found.append(log_z(opened.model, space, sequence, routing_of(problem.context, mask_NL), position_N))
            log_z_NQ.append(np.concatenate(found, axis=1))
            oracle_NQ.append(np.stack([one.loss_N[position_N] for one in chosen], axis=1))
            full_NQ.append(np.stack([one.loss_full_N[position_N] for one in chosen], axis=1))
            documents += [sequence.document] * len(position_N)
    return _section(run, np.concatenate(log_z_NQ), np.concatenate(oracle_NQ), np.concatenate(full_NQ), np.array(documents))


def _picked(groups: list[Group], n_positions: int, seed: int) -> dict[int, np.ndarray]:
    """Scored positions drawn without replacement over all sequences, by sequence, in order, each counted from its first."""
    names = np.array([(s.index, position) for group in groups for s in group.sequences for position in range(s.n_positions)])
    drawn = np.random.default_rng(seed).choice(len(names), size=min(n_positions, len(names)), replace=False)
    chosen = names[np.sort(drawn)]
    return {int(index): chosen[chosen[:, 0] == index, 1] for index in np.unique(chosen[:, 0])}


def _section(run: StoredRun, log_z_NQ: np.ndarray, oracle_NQ: np.ndarray, full_NQ: np.ndarray, document_N: np.ndarray) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for q, text in enumerate(run.budgets):
        gain_N = full_NQ[:, q] - oracle_NQ[:, q]
        values = (log_z_NQ[:, q], gain_N, gain_N - log_z_NQ[:, q])
        rows.append((text, *bootstrap(np.stack(values, axis=1), document_N)))
    title = f"log Z at {len(document_N)} positions drawn from the run's, nats per token [95%]; context {run.context}"
    note = (
        "Z = sum over v of the greatest p(v | pattern); gain - log Z: what the oracle gains once it pays for choosing by the label"
    )
    return Section("log_z", title, ("budget", "log Z", "gain", "gain - log Z"), tuple(rows), note)
