"""A run's positions read back from its own tables: its sequences, what was chosen for them, and the losses that it kept.

Axes: N tokens, P patterns, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.dataset as ds

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.contexts import ContextKind
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, to_array
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.problem import Keep, Problem
from duo_oracle.search.job.routed import RoutedSequence


@dataclass(frozen=True)
class Group:
    """Some sequences of the run, and what it stored of their tokens, sequence after sequence."""

    sequences: list[Window]
    chosen: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # by budget: loss_N, branches_NL, certified_N

    @property
    def document_N(self) -> np.ndarray:
        return np.concatenate([[sequence.document] * sequence.n_positions for sequence in self.sequences])


def kept_losses(run: StoredRun, sequence: Window, budget: Budget) -> np.ndarray:
    """loss_NP of one sequence's positions, for the patterns that the budget admits."""
    mine = ds.field("sequence") == sequence.index
    if run.context == "committed":
        mine &= ds.field("budget") == str(budget)
    rows = run.dataset("losses").to_table(columns=["position", "pattern", "loss"], filter=mine)
    codes = rows["pattern"].unify_dictionaries().combine_chunks()
    branches_PL = to_array(RoutingPattern.parse(pattern) for pattern in codes.dictionary.to_pylist())
    loss_NP = np.full((sequence.n_positions, len(branches_PL)), np.nan)
    loss_NP[rows["position"].to_numpy(), codes.indices.to_numpy()] = rows["loss"].to_numpy()
    return loss_NP[:, budget.allows(run.n_layers)[branch_counts(branches_PL, Branch.BIG)]]


def read_groups(run: StoredRun, budgets: tuple[str, ...], max_sequences: int | None) -> Iterator[Group]:
    """The run's sequences by unit, read from its own tables."""
    n_left = max_sequences if max_sequences is not None else 1 << 60
    columns = ["sequence", "document", "position", "token_id", "target_id", "context_pattern"]
    tokens = run.dataset("tokens").to_table(columns=columns).to_pandas()
    paths = run.paths()
    routed = run.parsed_context.kind is ContextKind.ROUTER
    tokens = tokens.sort_values(["sequence", "position"])
    paths = paths.sort_values(["sequence", "position"])
    indices = tokens["sequence"].unique().tolist()[:n_left]
    size = run.identity.get("unit_sequences") or 1
    for start in range(0, len(indices), size):
        members = indices[start : start + size]
        sequences = []
        for index in members:
            rows = tokens[tokens["sequence"] == index]
            token_ids = np.append(rows["token_id"].to_numpy(), rows["target_id"].to_numpy()[-1]).astype(np.int32)
            sequence = Window(index, rows["document"].iloc[0], token_ids)
            if routed:
                mask_TL = to_array(RoutingPattern.parse(text) for text in rows["context_pattern"])
                sequence = RoutedSequence(sequence.index, sequence.document, token_ids, mask_TL)
            sequences.append(sequence)
        of_group = paths[paths["sequence"].isin(members)]
        chosen = {}
        for text in budgets:
            rows = of_group[of_group["budget"] == str(run.budget(text))]
            branches_NL = to_array(RoutingPattern.parse(pattern) for pattern in rows["pattern"])
            chosen[text] = (rows["loss"].to_numpy(np.float64), branches_NL, rows["certified"].to_numpy())
        yield Group(sequences, chosen)


def problem_of(run: StoredRun, seed: int) -> Problem:
    """The run's question without its strategy: model, branches, context and skip as it was searched, nothing kept or drawn."""
    identity = run.identity
    config = SearchConfig(
        model="", data=(), out="", branches=identity["branches"], skip=identity["skip"], context=identity["context"], null_draws=0
    )
    return replace(config.problem(run.n_layers, run.cheapest), seed=seed, keep=Keep.NONE)
