"""The controls that need a run's model: all-big's calibration on the run's text, and log Z at some of its positions.

Axes: N positions, Q budgets, T token, L layer.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_model
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind, SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.spaces import parse_branches
from duo_oracle.results.answers.controls import Cell, Section, calibration_section
from duo_oracle.results.statistics.calibration import calibration
from duo_oracle.results.statistics.intervals import bootstrap
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.all_full import full_tokens
from duo_oracle.search.job.routed import RoutedSequence
from duo_oracle.search.rerun.log_z import Space, log_z, routing_of
from duo_oracle.search.rerun.replay import Group, read_groups


def model_of(run: StoredRun, model: str | None = None) -> OracleModel:
    """The run's model, or the directory `model` where it has moved. Raises InputError for one of other weights."""
    checkpoint = read_checkpoint(model or run.manifest.facts["model"])
    if checkpoint.fingerprint != run.identity["model_fingerprint"]:
        raise InputError(f"controls are of the model that {run.path} was searched with; this one has other weights")
    return load_model(checkpoint, run.identity["dtype"], route_layers=run.route_layers)


def calibration_of_run(run: StoredRun, model: OracleModel) -> Section:
    """How well all-big's probabilities describe the run's text."""
    groups = read_groups(run, (), None)
    return calibration_section(calibration(full_tokens(model, (s for group in groups for s in group.sequences))))


def log_z_of_run(run: StoredRun, model: OracleModel, n_positions: int, seed: int = 0) -> Section:
    """log Z at `n_positions` positions drawn from the run's, beside what the oracle gains there.

    Raises InputError for the context same.
    """
    groups = list(read_groups(run, run.budgets, None))
    picked = _picked(groups, n_positions, seed)
    parsed = run.parsed_context
    committed = parsed.kind is ContextKind.COMMITTED
    skip, branches = SkipReading(run.identity["skip"]), parse_branches(run.identity["branches"])
    budgets = tuple(run.budget(text) for text in run.budgets)
    spaces = [Space(branches, (budget,), skip) for budget in budgets] if committed else [Space(branches, budgets, skip)]
    log_z_NQ, oracle_NQ, documents = [], [], []
    for group in groups:
        start = 0
        for sequence in group.sequences:
            rows = np.arange(start, start + sequence.n_positions)
            start += sequence.n_positions
            position_N = picked.get(sequence.index)
            if position_N is None:
                continue
            found = []
            for number, space in enumerate(spaces):
                mask_TL = sequence.mask_TL if isinstance(sequence, RoutedSequence) else None
                if committed:
                    mask_TL = group.chosen[run.budgets[number]][1][rows]
                found.append(log_z(model, space, sequence, routing_of(parsed, mask_TL), position_N))
            log_z_NQ.append(np.concatenate(found, axis=1))
            oracle_NQ.append(np.stack([group.chosen[text][0][rows[position_N]] for text in run.budgets], axis=1))
            documents += [sequence.document] * len(position_N)
    big_NQ = _all_big(run, picked)
    return _section(run, np.concatenate(log_z_NQ), np.concatenate(oracle_NQ), big_NQ, np.array(documents))


def _picked(groups: list[Group], n_positions: int, seed: int) -> dict[int, np.ndarray]:
    """Positions drawn without replacement over all sequences, by sequence, in order."""
    names = np.array([(s.index, position) for group in groups for s in group.sequences for position in range(s.n_positions)])
    drawn = np.random.default_rng(seed).choice(len(names), size=min(n_positions, len(names)), replace=False)
    chosen = names[np.sort(drawn)]
    return {int(index): chosen[chosen[:, 0] == index, 1] for index in np.unique(chosen[:, 0])}


def _all_big(run: StoredRun, picked: dict[int, np.ndarray]) -> np.ndarray:
    """All-big's loss at the picked positions, in the pass of each budget: (N, Q)."""
    paths = run.paths()
    columns = []
    for text in run.budgets:
        of = paths[paths["budget"] == text].set_index(["sequence", "position"])["loss_full"]
        columns.append([of[(index, int(position))] for index, positions in picked.items() for position in positions])
    return np.array(columns, dtype=np.float64).T


def _section(run: StoredRun, log_z_NQ: np.ndarray, oracle_NQ: np.ndarray, big_NQ: np.ndarray, document_N: np.ndarray) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for q, text in enumerate(run.budgets):
        values = (log_z_NQ[:, q], big_NQ[:, q] - oracle_NQ[:, q], big_NQ[:, q] - oracle_NQ[:, q] - log_z_NQ[:, q])
        rows.append((text, *bootstrap(np.stack(values, axis=1), document_N)))
    title = f"log Z at {len(document_N)} positions drawn from the run's, nats per token [95%]; context {run.context}"
    note = (
        "Z = sum over v of the greatest p(v | pattern); gain - log Z: what the oracle gains once it pays for choosing by the label"
    )
    return Section("log_z", title, ("budget", "log Z", "gain", "gain - log Z"), tuple(rows), note)
