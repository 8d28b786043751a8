"""The exact oracle: for every position of a sequence and every budget, the best pattern of the whole space, proven.

The tree of all patterns is walked in blocks of leaves (`trie.py`, `walk.py`), and each block's best leaf is certified
(`certify.py`). One method per context. A sequence's first tokens may be warm: they take all-big in every context, and are not
searched. Knows no files, no workers and no strategy.

Axes: N positions or lanes side by side, T token, S state, P leaves, D hidden, Y labels, Q budgets, R rows (position x budget),
L layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.budgets import Budget
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.certify import CertifiedSearch, Draw
from duo_oracle.oracle.engine.choice import Groups
from duo_oracle.oracle.engine.device import at_once, resident
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullGains, NullLabels
from duo_oracle.oracle.engine.lanes import Step, left_to_right
from duo_oracle.oracle.engine.trie import FullTree, Trie
from duo_oracle.oracle.engine.walk import Attend, FixedContext, SameContext, descend
from duo_oracle.oracle.model import OracleModel, cheapest_branch, check_skip
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.records import OraclePaths, PatternLosses, concatenated, in_order, rows_of
from duo_oracle.oracle.reference import Reference

_TARGET_ROWS = 8192  # states that fill the matrix products; more would only leave the cache
_GPU_ROWS = 1 << 16  # the same where there is no such cache, and each launch costs what thousands of rows do
_WIDER_ROUNDS = 2  # so many times as many positions are certified together where the head's weights leave the cache
_TOP_STATES = 64  # the narrow first layers are walked for many positions at once
_FEW_LEAVES = 48  # evaluating so few through the whole head costs less than certifying them
_MOST_PLANS = 32
_REMEMBERED_LEAVES = 1 << 21  # trees up to this size are grown once and kept

Leaves = Iterator[tuple[Tensor, Groups]]
"""The leaves of a tree at N positions, block by block: h_NPD in the order of their groups, and the groups."""

OnLosses = Callable[[int, PatternLosses], None]
"""Takes a sequence's index and the losses of a block of patterns, as they are found."""


@dataclass(frozen=True)
class _Plan:
    """The tree of the patterns under some budgets, cut to blocks."""

    tree: FullTree
    budgets: tuple[Budget, ...]
    most_leaves: int
    least_depth: int
    _kept: list[tuple[np.ndarray, Trie, Groups]] = field(default_factory=list)

    @cached_property
    def _cut(self) -> tuple[Trie, list[np.ndarray]]:
        return self.tree.blocks(self.most_leaves, self.least_depth)

    @property
    def top(self) -> Trie:
        return self._cut[0]

    def blocks(self) -> Iterator[tuple[np.ndarray, Trie, Groups]]:
        """The roots, the tree below them, and the order of its leaves, block by block."""
        if self._kept:
            yield from self._kept
            return
        found = []
        n_leaves = 0
        for roots in self._cut[1]:
            trie = self.tree.below(self.top.branches_PL[roots])
            block = (roots, trie, Groups.of(trie.branches_PL, self.tree.branches, self.budgets))
            n_leaves += trie.n_leaves
            if n_leaves <= _REMEMBERED_LEAVES:
                found.append(block)
            yield block
        if n_leaves <= _REMEMBERED_LEAVES:
            self._kept.extend(found)

    @cached_property
    def n_leaves_first(self) -> int:
        return next(self.blocks())[1].n_leaves


class ExactOracle:
    """The exact oracle of one model, for some branches, budgets and reading of skip.

    Working memory beyond the weights stays under about `memory_bytes`. With `on_losses`, every pattern's loss is computed
    and handed over; without, only as many as the proof needs. A sequence's `reference` has a row for each of its scored positions,
    and is searched in the same pass; with `by_reference` a committed context is made of the patterns of least expected loss under
    it. `on_found` is told how many rows more were found, while a long search goes on.
    """

    def __init__(
        self,
        model: OracleModel,
        branches: tuple[Branch, ...],
        budgets: tuple[Budget, ...],
        skip: SkipReading,
        null: NullLabels | None = None,
        memory_bytes: int = 1 << 30,
        on_losses: OnLosses | None = None,
        by_reference: bool = False,
        on_found: Callable[[int], None] | None = None,
    ) -> None:
        check_skip(skip, model)
        self._model, self._budgets, self._skip = model, budgets, skip
        self._null = null or NullLabels()
        self._on_losses, self._by_reference, self._on_found = on_losses, by_reference, on_found
        self._head = Head(model)
        self._branches, self._cheapest = branches, cheapest_branch(model)
        # of a leaf: its state at the walk's widest place, four times (before, attended, after, normed), and the search's own
        per_leaf = 4 * (6 * model.n_hidden + 6 * (2 + self._null.draws) + 96)
        self._most_rows = max(1, memory_bytes // (2 * per_leaf))
        self._plans: dict[tuple[tuple[Budget, ...], int], _Plan] = {}

    def in_fixed_context(
        self,
        sequence: int,
        token_id_T: Tensor,
        routing: RoutingPattern | np.ndarray,
        n_warm: int = 0,
        reference: Reference | None = None,
    ) -> OraclePaths:
        """The earlier tokens took `routing`: one pattern, or mask_TL with a row per position. One pass for all budgets.

        `token_id_T` is int64, at least two tokens. Positions count from its first; `n_warm` of them are warm and have no rows.
        """
        context = FixedContext(self._model, token_id_T[:-1], routing, self._skip, n_warm)
        position_T = torch.arange(n_warm, len(context.start_TD), device=context.start_TD.device)
        return self.at_positions(sequence, token_id_T, context, position_T, range(len(self._budgets)), reference)

    def at_positions(
        self,
        sequence: int,
        token_id_T: Tensor,
        context: FixedContext,
        position_T: Tensor,
        budget_Q: Sequence[int],
        reference: Reference | None = None,
    ) -> OraclePaths:
        """Some of the positions of a sequence in a fixed context, under some of the budgets, by their numbers."""
        parts, budgets = [], tuple(self._budgets[budget] for budget in budget_Q)
        for position_N, leaves in self.walk(context, position_T, budgets):
            known = None if reference is None else reference.at((position_N - context.n_warm).cpu().numpy())
            target_N, names = token_id_T[position_N + 1], [sequence] * len(position_N)
            search = self._search(leaves, budgets, target_N, names, position_N, known)
            parts.append(self._paths(search, position_N, budget_Q))
        return concatenated(parts)

    def walk(
        self, context: FixedContext, position_T: Tensor | None = None, budgets: tuple[Budget, ...] | None = None
    ) -> Iterator[tuple[Tensor, Leaves]]:
        """The tree's leaves at positions of a sequence, without their losses: position_N, and h_NPD block by block. Default: every
        position that is not warm, and all budgets."""
        plan = self._plan(self._budgets if budgets is None else budgets)
        if position_T is None:
            position_T = torch.arange(context.n_warm, len(context.start_TD), device=context.start_TD.device)
        for wide in chunks(len(position_T), self._side_by_side(plan.top.n_leaves)):
            top_SND = self._descend_top(plan, context.start_TD[position_T[wide]], context.attend(position_T[wide]))
            for rows in chunks(top_SND.shape[1], self._side_by_side(plan.n_leaves_first)):
                position_N = position_T[wide][rows]
                yield position_N, self._leaves(plan, top_SND[:, rows], context.attend(position_N))

    def in_same_context(
        self, sequence: int, token_id_T: Tensor, n_warm: int = 0, reference: Reference | None = None
    ) -> OraclePaths:
        """Every earlier token took the candidate pattern itself. One pass for all budgets."""
        token_T = token_id_T[:-1]
        position_N = torch.arange(n_warm, len(token_T), device=token_T.device)
        plan = self._plan(self._budgets, len(token_T))
        context = SameContext(self._model, token_T, n_warm)
        top_SND = self._descend_top(plan, context.start_ND, context.attend)
        leaves = self._leaves(plan, top_SND, context.attend)
        target_N, names = token_id_T[n_warm + 1 :], [sequence] * len(position_N)
        search = self._search(leaves, self._budgets, target_N, names, position_N, reference)
        return self._paths(search, position_N, range(len(self._budgets)))

    def in_committed_context(
        self,
        sequences: Sequence[int],
        token_ids: Sequence[Tensor],
        n_warm: Sequence[int] | None = None,
        references: Sequence[Reference] | None = None,
    ) -> list[OraclePaths]:
        """Each earlier token ran its own chosen pattern. One pass per budget; the sequences are decided side by side.

        `n_warm` are how many first tokens of each sequence are warm, `references` are of each sequence or of none. Returns one
        OraclePaths per sequence, in the order given.
        """
        found: list[list[OraclePaths]] = [[] for _ in token_ids]
        for index in range(len(self._budgets)):
            for step in left_to_right(self._model, token_ids, self._skip, n_warm):
                known = None if references is None else step.reference(references, n_warm, step.lanes)
                names = [sequences[lane] for lane in step.lanes]
                paths = self.at_step(step, index, names, known)
                for row, lane in enumerate(step.lanes):
                    found[lane].append(rows_of(paths, np.array([row])))
                step.commit(paths.ref_branches_RL if self._by_reference else paths.branches_RL)
        return [in_order(concatenated(parts)) for parts in found]

    def at_step(
        self,
        step: Step,
        budget: int,
        sequence_N: Sequence[int],
        reference: Reference | None = None,
        row_N: np.ndarray | None = None,
    ) -> OraclePaths:
        """One position of a committed context, under one of the budgets, by its number, for all rows of the step or for `row_N`.

        `sequence_N` and `reference` are of these rows. Commits nothing.
        """
        plan = self._plan((self._budgets[budget],))
        n_rows = len(sequence_N)
        row = None if row_N is None else torch.from_numpy(row_N).to(step.x_ND.device)
        x_ND, target_N = (step.x_ND, step.target_N) if row is None else (step.x_ND[row], step.target_N[row])
        top_SND = self._descend_top(plan, x_ND, step.attend(slice(0, n_rows) if row is None else row))
        parts = []
        for rows in chunks(n_rows, self._side_by_side(plan.n_leaves_first)):
            position_N = torch.full((len(sequence_N[rows]),), step.position)
            leaves = self._leaves(plan, top_SND[:, rows], step.attend(rows if row is None else row[rows]))
            known = None if reference is None else reference.at(rows)
            budgets = (self._budgets[budget],)
            search = self._search(leaves, budgets, target_N[rows], sequence_N[rows], position_N, known, budget)
            parts.append(self._paths(search, position_N, [budget]))
        return concatenated(parts)

    def _plan(self, budgets: tuple[Budget, ...], n_positions: int = 1) -> _Plan:
        most_leaves = max(1, min(max(self._target_rows, self._most_rows // 64), self._most_rows) // n_positions)
        key = (budgets, most_leaves)
        if key not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                del self._plans[next(iter(self._plans))]
            n_letters, widest = self._model.n_letters, len(self._branches)
            least_depth = max(depth for depth in range(n_letters // 2 + 1) if widest**depth <= _TOP_STATES)
            tree = FullTree(n_letters, self._branches, budgets, (self._cheapest, Branch.BIG))
            self._plans[key] = _Plan(tree, budgets, most_leaves, least_depth)
        return self._plans[key]

    @property
    def _target_rows(self) -> int:
        return at_once(self._model.device, _TARGET_ROWS, _GPU_ROWS)

    def _side_by_side(self, n_states: int) -> int:
        """How many positions of so many states fill the matrix products."""
        wanted = self._target_rows * (1 if self._head.cached else _WIDER_ROUNDS)
        return max(1, min(wanted, self._most_rows) // n_states)

    def _descend_top(self, plan: _Plan, x_ND: Tensor, attend: Attend) -> Tensor:
        """The states of N positions at the roots of the blocks, top_SND."""
        return descend(self._model, plan.top.levels, 0, x_ND[None], attend, self._skip)

    def _leaves(self, plan: _Plan, top_SND: Tensor, attend: Attend) -> Leaves:
        """Walk the tree below its top for N positions side by side."""
        for roots, trie, groups in plan.blocks():
            root_SND = top_SND[resident(roots, top_SND.device)]
            x_PND = descend(self._model, trie.levels, trie.first_layer, root_SND, attend, self._skip)
            order_P = resident(groups.order_P, x_PND.device)
            yield self._head.states(x_PND.transpose(0, 1).index_select(1, order_P)), groups

    def _search(
        self,
        leaves: Leaves,
        budgets: tuple[Budget, ...],
        target_N: Tensor,
        sequence_N: Sequence[int],
        position_N: Tensor,
        reference: Reference | None,
        budget: int | None = None,
    ) -> CertifiedSearch:
        """Certify the best of the leaves of N positions, block by block; `reference` is of the N positions."""
        names = list(zip(sequence_N, position_N.tolist(), strict=True))
        draw: Draw = lambda h_ND: self._null.labels(self._head, h_ND, target_N, names)  # noqa: E731
        known = None if reference is None else self._head.distributions(reference)
        search = CertifiedSearch(self._head, budgets, draw, self._cheapest, known)
        for h_NPD, groups in leaves:
            loss_NP = search.search(h_NPD, groups, every=self._on_losses is not None or h_NPD.shape[1] <= _FEW_LEAVES)
            if self._on_losses is not None and loss_NP is not None:
                self._hand_over(loss_NP, groups, sequence_N, position_N, budget)
        return search

    def _hand_over(
        self, loss_NP: Tensor, groups: Groups, sequence_N: Sequence[int], position_N: Tensor, budget: int | None
    ) -> None:
        assert self._on_losses is not None
        inside = slice(0, groups.spans[-1].stop if groups.spans else 0)
        position_N32 = position_N.cpu().numpy().astype(np.int32)
        loss_NP32 = loss_NP[:, inside].float().cpu().numpy()
        for sequence in dict.fromkeys(sequence_N):
            mine = np.array(sequence_N) == sequence
            self._on_losses(sequence, PatternLosses(position_N32[mine], groups.branches_PL[inside], loss_NP32[mine], budget))

    def _paths(self, search: CertifiedSearch, position_N: Tensor, budget_Q: Sequence[int]) -> OraclePaths:
        """Rows by position, then budget."""
        n, q = len(position_N), len(budget_Q)
        if self._on_found is not None:
            self._on_found(n * q)
        loss_NYQ = search.loss_NYQ.double().cpu().numpy()
        small_NY, big_NY = (loss_NY.double().cpu().numpy() for loss_NY in (search.loss_cheapest_NY, search.loss_full_NY))
        n_labels = 1 + self._null.draws  # behind them stands the reference
        null = NullGains.of(loss_NYQ[:, :n_labels], small_NY[:, :n_labels], big_NY[:, :n_labels])
        of_reference = {}
        if search.by_reference is not None:
            expected_NQ, real_NQ = search.by_reference.loss_NQ.double(), search.by_reference.label_loss_NQ.double()
            of_reference = {
                "ref_branches_RL": search.by_reference.branches_NQL.reshape(n * q, -1),
                "ref_expected_gain_R": (big_NY[:, -1:] - expected_NQ.cpu().numpy()).reshape(-1),
                "ref_loss_R": real_NQ.cpu().numpy().reshape(-1),
            }
        return OraclePaths(
            position_R=np.repeat(position_N.cpu().numpy().astype(np.int32), q),
            budget_R=np.tile(np.array(budget_Q, dtype=np.int16), n),
            branches_RL=search.best.branches_NQL.reshape(n * q, -1),
            loss_R=search.best.loss_NQ.double().cpu().numpy().reshape(-1),
            loss_cheapest_R=np.repeat(small_NY[:, 0], q),
            loss_full_R=np.repeat(big_NY[:, 0], q),
            evaluations_R=np.tile(search.evaluations_Q, n).astype(np.int32),
            certified_R=np.ones(n * q, dtype=bool),
            null_gain_R=null.gain_NQ.reshape(-1),
            null_difficulty_R=null.difficulty_NQ.reshape(-1),
            null_above_R=null.above_NQ.reshape(-1),
            entropy_full_R=np.repeat(search.entropy_full_N.double().cpu().numpy(), q),
            leaves_R=np.repeat(search.leaves_N.cpu().numpy().astype(np.int32), q),
            **of_reference,
        )
