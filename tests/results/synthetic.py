"""Runs made of random losses, written through the project's own writers: what the tests of results/ ask questions of.

Axes: N positions, P patterns, L layers, R rows (position x budget).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.budgets import Budget, parse_budgets
from duo_oracle.oracle.contexts import stored_context
from duo_oracle.oracle.patterns import Branch, branch_counts, tie_order
from duo_oracle.oracle.records import OraclePaths, PatternLosses, Trials
from duo_oracle.results import Run, load
from duo_oracle.results.store.beside import GrowingTable
from duo_oracle.results.store.columns import BESIDE, COLUMNS
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.writer import RunWriter

WORDS = [" the", " $5", "\n", " tree", "a_b", " ^x", "\t", " end", ".", " \u201cyes\u201d", " {no}", "s"]


@dataclass(frozen=True)
class Synthetic:
    """A run's search question and size. Every sequence is a document's only window unless `windows` says more."""

    documents: int = 6
    windows: int = 2
    length: int = 7
    n_letters: int = 4
    budgets: str = "0-4"
    context: str = "full"
    keep: str | None = "losses"
    texts: bool = True
    nulls: bool = True
    null_draws: int = 4
    seed: int = 0
    route_layers: tuple[int, ...] | None = None
    """The real numbers of the layers that are routed, one for each of `n_letters`; None for all of the model."""
    cheapest: Branch = Branch.SMALL
    """The branch beside big: skip in a model without small FFNs."""

    @property
    def identity(self) -> dict:
        more: dict = {} if self.route_layers is None else {"route_layers": list(self.route_layers)}
        if self.cheapest is not Branch.SMALL:
            more["cheapest"] = self.cheapest.letter
        return more | {
            "strategy": "exhaustive",
            "settings": {},
            "branches": f"{self.cheapest.letter}B",
            "skip": "ffn",
            "context": stored_context(self.context),
            "budgets": [str(budget) for budget in self.parsed_budgets],
            "n_letters": self.n_letters,
            "dtype": "float32",
            "seed": self.seed,
            "keep": self.keep,
            "null_draws": self.null_draws if self.nulls else 0,
            "model_fingerprint": "m0",
            "data_fingerprint": f"{self.documents}x{self.windows}x{self.length}",
        }

    @property
    def parsed_budgets(self) -> tuple[Budget, ...]:
        return parse_budgets(self.budgets, self.n_letters)

    @property
    def branches_PL(self) -> np.ndarray:
        bits_PL = (np.arange(2**self.n_letters)[:, None] >> np.arange(self.n_letters)) & 1
        return np.where(bits_PL, Branch.BIG, self.cheapest).astype(np.uint8)

    def token_ids(self, sequence: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, sequence)).integers(0, len(WORDS), self.length).astype(np.int32)

    def loss_NP(self, sequence: int) -> np.ndarray:
        """Every pattern's loss at every position: falling with B's, different per token, and noise."""
        rng = np.random.default_rng((self.seed, 2, sequence))
        n_big_P = branch_counts(self.branches_PL, Branch.BIG)
        base_N = rng.gamma(2.0, 1.5, self.length - 1)
        noise_NP = rng.normal(0, 0.3, (self.length - 1, len(n_big_P)))
        return np.abs(base_N[:, None] * (1.2 - 0.1 * n_big_P) + noise_NP).astype(np.float32)

    def paths(self, sequence: int) -> OraclePaths:
        loss_NP = self.loss_NP(sequence).astype(np.float64)
        n_positions, n_budgets = len(loss_NP), len(self.parsed_budgets)
        order_P = tie_order(self.branches_PL)
        best_NB = np.empty((n_positions, n_budgets), dtype=np.int64)
        for column, budget in enumerate(self.parsed_budgets):
            allowed_P = order_P[budget.allows(self.n_letters)[branch_counts(self.branches_PL, Branch.BIG)[order_P]]]
            best_NB[:, column] = allowed_P[loss_NP[:, allowed_P].argmin(axis=1)]
        best_R = best_NB.ravel()
        position_R = np.repeat(np.arange(n_positions, dtype=np.int32), n_budgets)
        n_rows = len(best_R)
        nulls_R = np.random.default_rng((self.seed, 3, sequence)).gamma(1.0, 0.3, n_rows)
        return OraclePaths(
            position_R=position_R,
            budget_R=np.tile(np.arange(n_budgets, dtype=np.int16), n_positions),
            branches_RL=self.branches_PL[best_R],
            loss_R=loss_NP[position_R, best_R],
            loss_cheapest_R=loss_NP[position_R, 0],
            loss_full_R=loss_NP[position_R, -1],
            evaluations_R=np.full(n_rows, len(self.branches_PL), dtype=np.int32),
            certified_R=np.ones(n_rows, dtype=bool),
            null_gain_R=nulls_R if self.nulls else np.full(n_rows, np.nan),
            null_difficulty_R=nulls_R + 0.2 if self.nulls else np.full(n_rows, np.nan),
            null_above_R=(nulls_R > 0.3) * 2.0 if self.nulls else np.full(n_rows, np.nan),
            entropy_full_R=np.repeat(1.0 + np.arange(n_positions), n_budgets),
            leaves_R=np.full(n_rows, 5, dtype=np.int32),
        )

    def trials(self, sequence: int) -> Trials:
        """Every pattern of every position under budget 0, as if asked for in the order of their number; the first one fails."""
        loss_NP = self.loss_NP(sequence).astype(np.float64)
        loss_NP[:, 0] = np.nan
        n_positions, n_patterns = loss_NP.shape
        return Trials(
            position_R=np.repeat(np.arange(n_positions, dtype=np.int32), n_patterns),
            budget_R=np.zeros(loss_NP.size, dtype=np.int16),
            branches_RL=np.tile(self.branches_PL, (n_positions, 1)),
            loss_R=loss_NP.ravel(),
            message_R=tuple("no such state" if pattern == 0 else "" for _ in range(n_positions) for pattern in range(n_patterns)),
        )

    def blocks(self, sequence: int) -> list[PatternLosses]:
        """The losses in blocks of positions and patterns, once, or per budget in a committed context."""
        loss_NP, branches_PL = self.loss_NP(sequence), self.branches_PL
        half = len(branches_PL) // 2
        passes = range(len(self.parsed_budgets)) if self.context == "committed" else [None]
        position_N = np.arange(len(loss_NP), dtype=np.int32)
        return [
            PatternLosses(position_N[rows], branches_PL[columns], loss_NP[rows, columns], budget)
            for budget in passes
            for rows in (slice(0, 2), slice(2, None))
            for columns in (slice(0, half), slice(half, None))
        ]

    def write_unit(self, directory: Path, run_id: str, unit: int):
        """One unit per document."""
        texts = WORDS if self.texts else None
        with UnitWriter(directory, run_id, unit, self.parsed_budgets, self.keep, texts) as writer:
            for sequence in range(unit * self.windows, (unit + 1) * self.windows):
                if self.keep == "losses":
                    for block in self.blocks(sequence):
                        writer.add_losses(sequence, block)
                if self.keep == "trials":
                    writer.add_trials(sequence, self.trials(sequence))
                writer.add_sequence(sequence, f"doc{unit}", self.token_ids(sequence), self.paths(sequence))
        return writer.record

    def write(self, directory: Path) -> Run:
        facts = {"config": {"seed": self.seed}, "model": "toy", "data": "synthetic", "versions": {}}
        with RunWriter.open(directory, self.identity, facts) as run:
            for unit in range(self.documents):
                run.add_unit(self.write_unit(directory, run.run_id, unit))
            run.finish()
        return load(directory)


def add_beside(run: Run, seed: int = 0) -> Run:
    """The run with rows of random values in every table that a finished run gets when it is asked for it."""
    rng, tokens = np.random.default_rng(seed), run.dataset("tokens").to_table(columns=["sequence", "position"])
    for table in BESIDE:
        columns = {name: tokens[name] for name in tokens.column_names}
        for column in COLUMNS[table]:
            if pa.types.is_floating(column.type):
                columns.setdefault(column.name, rng.normal(size=tokens.num_rows))
            elif pa.types.is_integer(column.type):
                columns.setdefault(column.name, rng.integers(1, 3, tokens.num_rows))
            else:
                columns.setdefault(column.name, rng.choice(["s", "B"], tokens.num_rows))
        grown = GrowingTable(run, table, "drawn")
        grown.add(columns)
        grown.save()
    return run
