"""A run's positions as arrays: every budget's oracle path side by side, and every pattern's loss where they were kept.

Axes: N positions (by sequence, then position), K budgets in the run's order, L layers, P patterns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, to_array
from duo_oracle.results.store.reader import StoredRun


@dataclass(frozen=True)
class Positions:
    """Losses in nats. `null_gain_NK` is NaN where no labels were drawn."""

    budgets: tuple[str, ...]
    sequence_N: np.ndarray
    position_N: np.ndarray
    document_N: np.ndarray
    token_N: np.ndarray
    """How the token at the position reads (its id after a space where no tokenizer says)."""
    target_N: np.ndarray
    branches_NKL: np.ndarray
    loss_NK: np.ndarray
    null_gain_NK: np.ndarray
    small_N: np.ndarray
    big_N: np.ndarray

    @property
    def n_layers(self) -> int:
        return self.branches_NKL.shape[2]

    def column(self, budget: int | str) -> int:
        """Where a budget stands. Raises InputError for one that was not searched."""
        if str(budget) not in self.budgets:
            raise InputError(f"the run was not searched under budget {budget}; available: {', '.join(self.budgets)}")
        return self.budgets.index(str(budget))

    def takes_big(self, budget: int | str) -> np.ndarray:
        """Which layers the oracle path makes big: bool, (N, L)."""
        return self.branches_NKL[:, self.column(budget)] == Branch.BIG

    @property
    def excess_NK(self) -> np.ndarray:
        """The gain over all-big minus the null gain."""
        return self.big_N[:, None] - self.loss_NK - self.null_gain_NK


def read_positions(run: StoredRun) -> Positions:
    """The run's tables as arrays. Raises InputError for a run whose positions do not all have every budget."""
    tokens = run.dataset("tokens").to_table().sort_by([("sequence", "ascending"), ("position", "ascending")])
    paths = run.dataset("paths").to_table()
    column_R = np.array([run.budgets.index(text) for text in paths["budget"].to_pylist()])
    order_R = np.lexsort((column_R, paths["position"].to_numpy(), paths["sequence"].to_numpy()))
    shape = (tokens.num_rows, len(run.budgets))
    if len(order_R) != shape[0] * shape[1]:
        raise InputError(f"{run.path} has {len(order_R)} paths for {shape[0]} positions under {shape[1]} budgets; let it finish")

    def values(name: str) -> np.ndarray:
        return paths[name].to_numpy(zero_copy_only=False).astype(np.float64)[order_R].reshape(shape)

    letters = "".join(paths["pattern"].to_pylist()).encode()
    branches_RL = np.frombuffer(letters, dtype=np.uint8).reshape(len(order_R), run.n_layers)
    code = np.zeros(256, dtype=np.uint8)
    for branch in Branch:
        code[ord(branch.letter)] = branch
    return Positions(
        budgets=run.budgets,
        sequence_N=tokens["sequence"].to_numpy(),
        position_N=tokens["position"].to_numpy(),
        document_N=np.array(tokens["document"].to_pylist()),
        token_N=_texts(tokens, "token"),
        target_N=_texts(tokens, "target"),
        branches_NKL=code[branches_RL[order_R]].reshape(*shape, run.n_layers),
        loss_NK=values("loss"),
        null_gain_NK=values("null_gain"),
        small_N=values("loss_cheapest")[:, 0],
        big_N=values("loss_full")[:, 0],
    )


@dataclass(frozen=True)
class LossTable:
    """Every pattern's loss at every position of a run that kept them."""

    branches_PL: np.ndarray
    loss_NP: np.ndarray  # float32

    def within(self, n_big: int) -> np.ndarray:
        """loss_NP of the patterns of exactly `n_big` B's."""
        return self.loss_NP[:, branch_counts(self.branches_PL, Branch.BIG) == n_big]

    def of(self, branches_NL: np.ndarray) -> np.ndarray:
        """The loss of one given pattern per position: (N,); NaN for a pattern that was not scored."""
        row_of = {row.tobytes(): index for index, row in enumerate(self.branches_PL)}
        index_N = np.array([row_of.get(row.tobytes(), -1) for row in np.ascontiguousarray(branches_NL, dtype=np.uint8)])
        return np.where(index_N < 0, np.nan, self.loss_NP[np.arange(len(index_N)), index_N])


def read_losses(run: StoredRun) -> LossTable:
    """The kept losses of a run in a context whose positions are independent. Raises InputError where none were kept."""
    losses = run.dataset("losses")
    blocks = []
    branches_PL = np.empty((0, run.n_layers), dtype=np.uint8)
    order: dict[str, int] = {}
    sequences = run.dataset("tokens").to_table(columns=["sequence"])["sequence"].to_numpy()
    for sequence in np.unique(sequences):
        rows = losses.to_table(columns=["position", "pattern", "loss"], filter=ds.field("sequence") == sequence)
        codes = rows["pattern"].unify_dictionaries().combine_chunks()
        texts = codes.dictionary.to_pylist()
        if not order:
            branches_PL = to_array(RoutingPattern.parse(text) for text in texts)
            order = {text: place for place, text in enumerate(texts)}
        place_P = np.array([order[text] for text in texts])
        loss_NP = np.full((int((sequences == sequence).sum()), len(order)), np.nan, dtype=np.float32)
        loss_NP[rows["position"].to_numpy(), place_P[codes.indices.to_numpy()]] = rows["loss"].to_numpy()
        blocks.append(loss_NP)
    return LossTable(branches_PL, np.concatenate(blocks))


def _texts(tokens: pa.Table, name: str) -> np.ndarray:
    ids = tokens[f"{name}_id"].to_pylist()
    return np.array(
        [f" {i}" if text is None else text for text, i in zip(tokens[name].to_pylist(), ids, strict=True)], dtype=object
    )
