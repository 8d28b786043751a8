"""Re-scores a run's stored paths with plain forward passes of the model: a check that shares nothing with the engine.

In a `committed` run one pass per sequence and budget, every token routed by its stored path, must give every stored
loss. In the other contexts, and for the losses of all-big and of the run's cheapest pattern, each checked position takes a pass
of its own: the tokens before it in the run's context, itself as stored; these are a sample. Token ids, and in a router's context
what it chose, come from the run's own tokens.
Only `OracleModel.forward` is used. A sequence's last token has no path and takes the big branches: nothing sees it.

Axes: B rows of a batch, T token, L routed layer, V vocabulary, R rows of the paths table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import ContextKind, SkipReading
from duo_oracle.oracle.patterns import Branch, RoutingPattern, to_array
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.windows import front_of, warm_tokens

if TYPE_CHECKING:
    from duo_oracle.oracle.model import OracleModel

SAMPLE = 256
_LOGITS = 1 << 25  # logits computed at once: 128 MiB of float32


@dataclass
class Check:
    """One kind of loss: how many were computed again, of how many stored, and the greatest difference in nats."""

    name: str
    stored: int = 0
    checked: int = 0
    greatest: float = 0.0
    where: str = ""

    def add(self, again_R: np.ndarray, stored_R: np.ndarray, where: list[str]) -> None:
        if not len(again_R):
            return
        difference_R = np.abs(again_R - stored_R)
        difference_R[~np.isfinite(difference_R)] = np.inf  # a loss that is no number is as wrong as can be
        worst = int(difference_R.argmax())
        self.checked += len(difference_R)
        if difference_R[worst] >= self.greatest:
            self.greatest, self.where = float(difference_R[worst]), where[worst]

    def __str__(self) -> str:
        at = f" at {self.where}" if self.where else ""
        return f"{self.name:<20} {self.checked:>9,} of {self.stored:,} checked, greatest difference {self.greatest:.2e}{at}"


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `str()` is its report."""

    context: str
    checks: tuple[Check, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        return all(check.greatest <= self.tolerance for check in self.checks)

    def __str__(self) -> str:
        verdict = "reproduced" if self.passed else "NOT reproduced"
        end = f"{verdict} to {self.tolerance:g} nats by plain forward passes, context {self.context}"
        return "\n".join([*map(str, self.checks), end])


@dataclass(frozen=True)
class _StoredSequence:
    """One sequence of a unit: its token ids, the warm ones in front with them, and its rows of the paths table (positions among the
    token ids, budgets' numbers, losses)."""

    index: int
    token_id_T: np.ndarray
    n_warm: int
    n_front: int
    position_R: np.ndarray
    budget_R: np.ndarray
    branches_RL: np.ndarray
    loss_R3: np.ndarray  # oracle, cheapest pattern, all-big
    within_R: np.ndarray  # certified_within where a tolerance let the path be, else NaN
    picked_R: np.ndarray  # whether the row is in the sample
    context_NL: np.ndarray | None  # what every scored token took as context of later ones, in a router's context


def verify(run: StoredRun, model: OracleModel, sample: int | None = SAMPLE, tolerance: float = 1e-4, seed: int = 0) -> Verification:
    """Computes stored losses again with `model`, the run's own.

    `sample`: for what takes a pass per position, how many rows of the paths table, drawn with `seed` (None: every one).
    Raises InputError for parts that are not the ones the run wrote.
    """
    if sample is not None and sample < 1:
        raise InputError(f"`sample` must be at least 1; got {sample}")
    verifier = _Verifier(run, model)
    for sequence in _stored_sequences(run, sample, seed):
        verifier.check(sequence)
    proofs = () if verifier.most_within is None else (verifier.proof,)
    return Verification(run.context, (verifier.oracle, verifier.cheapest, verifier.big, *proofs), tolerance)


class _Verifier:
    def __init__(self, run: StoredRun, model: OracleModel) -> None:
        self._place, self._model, self._budgets, self._cheapest = run.place, model, run.budgets, run.cheapest
        self._skip = SkipReading(run.identity["skip"])
        self._context = run.parsed_context
        self.oracle, self.big = Check("oracle path's loss"), Check(f"{run.full_name} loss")
        self.cheapest = Check(f"{run.cheapest_name} loss")
        self.most_within: float | None = run.identity.get("tolerance")
        self.proof = Check("certified within")

    def check(self, sequence: _StoredSequence) -> None:
        self._check_whole(sequence)
        for check in (self.oracle, self.cheapest, self.big):
            check.stored += len(sequence.position_R)
        committed = self._context.kind is ContextKind.COMMITTED
        if committed:
            self._check_assembled(sequence)
        rows = np.flatnonzero(sequence.picked_R)
        if not len(rows):
            return
        position_B = sequence.position_R[rows]
        where = self._places(sequence, rows)
        uniform = [(self.oracle, None), (self.cheapest, self._cheapest), (self.big, Branch.BIG)]
        for column, (check, branch) in enumerate(uniform):
            if branch is None and committed:
                continue
            own_BL = sequence.branches_RL[rows] if branch is None else np.full((len(rows), self._model.n_letters), branch, np.uint8)
            mask_BTL = self._masks(sequence, rows, own_BL)
            again_B = self._losses(sequence.token_id_T, mask_BTL, position_B)
            check.add(again_B, sequence.loss_R3[rows, column], where)
            if branch is None:
                self._check_proof(sequence, rows, again_B, where)

    def _check_whole(self, sequence: _StoredSequence) -> None:
        """Raises InputError where some position has not one path of every budget."""
        wanted_N = np.arange(sequence.n_warm, len(sequence.token_id_T) - 1)
        for number, budget in enumerate(self._budgets):
            position_N = np.sort(sequence.position_R[sequence.budget_R == number])
            if not np.array_equal(position_N, wanted_N):
                raise InputError(
                    f"{self._place}: every one of sequence {sequence.index}'s {len(wanted_N)} positions has one path of budget "
                    f"{budget}; it has {len(position_N)} paths, of {len(np.intersect1d(position_N, wanted_N))} of them"
                )

    def _check_assembled(self, sequence: _StoredSequence) -> None:
        for budget in range(len(self._budgets)):
            rows = np.flatnonzero(sequence.budget_R == budget)
            mask_TL = self._chosen(sequence, budget)
            again_R = self._losses(sequence.token_id_T, mask_TL[None], sequence.position_R[rows][None])[0]
            where = self._places(sequence, rows)
            self.oracle.add(again_R, sequence.loss_R3[rows, 0], where)
            self._check_proof(sequence, rows, again_R, where)

    def _check_proof(self, sequence: _StoredSequence, rows: np.ndarray, again_R: np.ndarray, where: list[str]) -> None:
        """No loss is below 0, so a path is within its own loss of the best: it is at most what is said, and the tolerance."""
        said_R = sequence.within_R[rows]
        let_be = np.flatnonzero(~np.isnan(said_R))
        self.proof.stored += len(let_be)
        if self.most_within is not None and len(let_be):
            allowed_R = np.minimum(said_R[let_be], self.most_within)
            proven_R = np.maximum(again_R[let_be], said_R[let_be])
            self.proof.add(proven_R, allowed_R, [where[row] for row in let_be])

    def _masks(self, sequence: _StoredSequence, rows: np.ndarray, own_BL: np.ndarray) -> np.ndarray:
        """Row by row the routing mask of the whole sequence: the earlier tokens in the run's context, and the row's own pattern."""
        n_tokens = len(sequence.token_id_T)
        if self._context.kind is ContextKind.SAME:
            mask_BTL = np.repeat(own_BL[:, None], n_tokens, axis=1)
        elif sequence.context_NL is not None:
            mask_TL = np.full((n_tokens, self._model.n_letters), Branch.BIG, np.uint8)
            mask_TL[sequence.n_warm : -1] = sequence.context_NL
            mask_BTL = np.tile(mask_TL, (len(rows), 1, 1))
        elif self._context.pattern is not None:
            mask_BTL = np.tile(np.array(self._context.pattern.branches, np.uint8), (len(rows), n_tokens, 1))
        else:
            mask_BTL = np.stack([self._chosen(sequence, int(budget)) for budget in sequence.budget_R[rows]])
        mask_BTL[np.arange(len(rows)), sequence.position_R[rows]] = own_BL
        mask_BTL[:, : sequence.n_warm] = Branch.BIG
        return mask_BTL

    def _chosen(self, sequence: _StoredSequence, budget: int) -> np.ndarray:
        rows = sequence.budget_R == budget
        mask_TL = np.full((len(sequence.token_id_T), self._model.n_letters), Branch.BIG, np.uint8)
        mask_TL[sequence.position_R[rows]] = sequence.branches_RL[rows]
        return mask_TL

    def _losses(self, token_id_T: np.ndarray, mask_BTL: np.ndarray, position_B: np.ndarray) -> np.ndarray:
        """Losses at `position_B`, (B,) or (B, any number of positions of that row), of plain passes with these masks."""
        import torch

        from duo_oracle.oracle.model import losses_of, token_ids_on

        device = self._model.device
        loss_B = np.empty(position_B.shape)
        target_B = token_ids_on(device, token_id_T[position_B + 1])
        step = max(1, _LOGITS // (len(token_id_T) * self._model.n_vocabulary))
        with torch.inference_mode():
            for start in range(0, len(mask_BTL), step):
                rows = slice(start, start + step)
                n_seen = int(position_B[rows].max()) + 1  # no position sees the tokens after it
                mask = torch.from_numpy(mask_BTL[rows, :n_seen]).to(device)
                token_id = token_ids_on(device, token_id_T[:n_seen]).expand(len(mask), -1)
                logits_BTV = self._model.forward(token_id, mask, self._skip)
                position = torch.from_numpy(position_B[rows].astype(np.int64)).to(device).reshape(len(mask), -1)
                logits_BNV = torch.take_along_dim(logits_BTV, position[:, :, None], dim=1)
                loss_BN = losses_of(logits_BNV, target_B[rows].reshape(len(mask), -1))
                loss_B[rows] = loss_BN.cpu().numpy().reshape(loss_B[rows].shape)
        return loss_B

    def _places(self, sequence: _StoredSequence, rows: np.ndarray) -> list[str]:
        pairs = zip((sequence.position_R[rows] - sequence.n_front).tolist(), sequence.budget_R[rows].tolist(), strict=True)
        return [f"sequence {sequence.index} position {position} budget {self._budgets[budget]}" for position, budget in pairs]


def _stored_sequences(run: StoredRun, sample: int | None, seed: int) -> Iterator[_StoredSequence]:
    """The run's sequences, one unit in memory at a time, with the sample of rows drawn over the whole run."""
    records = [run.manifest.units[unit] for unit in sorted(run.manifest.units)]
    n_rows = sum(record.parts["paths"].rows for record in records)
    picked = np.arange(n_rows)
    if sample is not None and sample < n_rows:
        picked = np.sort(np.random.default_rng(seed).choice(n_rows, sample, replace=False))
    budgets = [run.budget(text) for text in run.budgets]
    number = {str(budget): index for index, budget in enumerate(budgets)}
    routed = run.parsed_context.kind is ContextKind.ROUTER
    start, n_front = 0, len(front_of(run))
    for record in records:
        tokens = run.dataset("tokens", record.unit).to_table()
        paths = run.dataset("paths", record.unit).to_table()
        budget_R = np.array([number[text] for text in paths["budget"].to_pylist()], dtype=np.int64)
        branches = [RoutingPattern.parse(text, run.n_letters, run.table).branches for text in paths["pattern"].to_pylist()]
        branches_RL = np.array(branches, dtype=np.uint8).reshape(-1, run.n_letters)
        loss_R3 = np.stack([paths[name].to_numpy().astype(np.float64) for name in ("loss", "loss_cheapest", "loss_full")], axis=1)
        within_R = paths["certified_within"].to_numpy().astype(np.float64)
        within_R[paths["certified"].to_numpy().astype(bool)] = np.nan
        picked_R = np.isin(np.arange(start, start + len(budget_R)), picked)
        start += len(budget_R)
        of_token, of_path = tokens["sequence"].to_numpy(), paths["sequence"].to_numpy()
        for index in np.unique(of_token).tolist():
            mine, rows = of_token == index, of_path == index
            order = np.argsort(tokens["position"].to_numpy()[mine])
            ids, targets = tokens["token_id"].to_numpy()[mine][order], tokens["target_id"].to_numpy()[mine][order]
            first = int(tokens["position"].to_numpy()[mine][order[0]])
            warm_ids = tokens["warm_ids"].filter(pa.array(mine))[int(order[0])].as_py()
            warm = warm_tokens(run, int(index), first, warm_ids)
            position_R = paths["position"].to_numpy()[rows] + n_front
            token_id_T = np.concatenate([warm, ids, targets[-1:]])
            if len(position_R) and not 0 <= position_R.min() <= position_R.max() < len(token_id_T) - 1:
                raise InputError(f"{run.path}: sequence {index} has paths at positions that it has no token of")
            context_NL = None
            if routed:
                patterns = tokens["context_pattern"].filter(pa.array(mine)).to_pylist()
                context_NL = to_array(RoutingPattern.parse(text, run.n_letters, run.table) for text in patterns)[order]
            found = (position_R, budget_R[rows], branches_RL[rows], loss_R3[rows], within_R[rows], picked_R[rows], context_NL)
            yield _StoredSequence(index, token_id_T, len(warm), n_front, *found)
