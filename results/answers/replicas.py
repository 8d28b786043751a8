"""Replication: runs of the same text under other label seeds, noise seeds or training seeds. Does a token's oracle path come back?

Agreement is held against chance: the tokens of one run matched with those of the other at random, which keeps how often each
run uses each pattern and layer. And does the mean excess move by less than its interval?

Axes: N tokens, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.layers import format_layers
from duo_oracle.oracle.patterns import RoutingPattern, to_array
from duo_oracle.results.answers.controls import Cell, Section
from duo_oracle.results.statistics.intervals import Estimate, bootstrap, paired
from duo_oracle.results.store.reader import StoredRun

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ["sequence", "position"]
_COLUMNS = (
    "budget",
    "run",
    "same path",
    "by chance",
    "same branch",
    "by chance ",
    "excess moves by",
    "could have shown",
    "r of excess",
)


def replication(run: StoredRun, others: Sequence[StoredRun]) -> Section:
    """Every other run beside `run`, budget by budget, for the budgets that both were searched under.

    Raises InputError for runs of other data or other layers, and where no budget is common.
    """
    rows: list[tuple[Cell, ...]] = []
    for other in others:
        for key in ("data_fingerprint", "n_letters", "branches"):
            if run.identity[key] != other.identity[key]:
                raise InputError(f"a replica has the same {key} as {run.place}; {other.place} has {other.identity[key]}")
        if run.layers != other.layers:
            raise InputError(f"a replica routes the same layers as {run.place}; {other.place} routes {format_layers(other.layers)}")
        common = [budget for budget in run.budgets if budget in other.budgets]
        if not common:
            raise InputError(
                f"{run.place} and {other.place} have no budget in common: {', '.join(run.budgets)} and {', '.join(other.budgets)}"
            )
        rows += [(budget, other.name, *_compared(run, other, budget)) for budget in common]
    title = f"replicas of {run.name}: do its oracle paths and its excess come back? [95%]"
    note = "by chance: tokens matched at random; r: correlation over tokens, 1 where the excess of a token is its own"
    return Section("replicas", title, _COLUMNS, tuple(rows), note)


def _compared(run: StoredRun, other: StoredRun, budget: str) -> tuple[Cell, ...]:
    ours, theirs = (_rows(each, budget) for each in (run, other))
    both = ours.merge(theirs, on=_KEYS, suffixes=("", "_other"), validate="one_to_one")
    document_N = both["document"].to_numpy()
    pattern_N, pattern_other_N = both["pattern"].to_numpy(), both["pattern_other"].to_numpy()
    branch_NL, other_NL = (
        to_array(RoutingPattern.parse(text, table=run.table) for text in texts) for texts in (pattern_N, pattern_other_N)
    )
    same, agree = bootstrap(np.stack([pattern_N == pattern_other_N, (branch_NL == other_NL).mean(axis=1)], axis=1), document_N)
    chance = float(sum(share * (pattern_other_N == pattern).mean() for pattern, share in _shares(pattern_N)))
    branch_chance = float(np.mean(sum((branch_NL == b).mean(axis=0) * (other_NL == b).mean(axis=0) for b in run.table.branches)))
    excess_N, excess_other_N = both["excess"].to_numpy(np.float64), both["excess_other"].to_numpy(np.float64)
    moved: Estimate | None = None
    correlation = None
    if not (np.isnan(excess_N).any() or np.isnan(excess_other_N).any()):
        moved = paired(excess_other_N, excess_N, document_N)
        if excess_N.std() > 0 and excess_other_N.std() > 0:
            correlation = float(np.corrcoef(excess_N, excess_other_N)[0, 1])
    return same, chance, agree, branch_chance, moved, None if moved is None else moved.detectable, correlation


def _shares(pattern_N: np.ndarray) -> list[tuple[str, float]]:
    names, counts = np.unique(pattern_N, return_counts=True)
    return list(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))


def _rows(run: StoredRun, budget: str) -> pd.DataFrame:
    """The paths of one budget, with their documents."""
    paths = run.paths()
    mine = paths["budget"] == str(run.budget(budget))
    documents = run.tokens()[[*_KEYS, "document"]]
    return paths[mine][[*_KEYS, "pattern", "excess"]].merge(documents, on=_KEYS)
