"""Scoring any set of patterns at any positions, in a declared context, under any of a position's targets: its labels, and last,
where there is one, its reference's distribution.

The scorer knows model and context, not strategies. A place is scored, never warm: where a sequence has warm tokens, place 0 is the
first behind them. It makes the set's tree of prefixes, so that each (place, prefix) is
evaluated once, and returns losses in the order given. A place is a position of one sequence, or, in the committed
context, one of several sequences decided side by side.

Axes: R rows asked for, M rows at once, N places, T token, S state, P leaves, Y labels, L layer, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import Step
from duo_oracle.oracle.engine.trie import trie_of
from duo_oracle.oracle.engine.walk import Attend, Choose, FixedContext, SameContext, attend_forest, descend, descend_choosing
from duo_oracle.oracle.model import OracleModel, finite
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.oracle.reference import Reference

_MOST_ROWS = 16384  # states scored at once


class Scorer(Protocol):
    """Losses of patterns at places. Scoring twice gives equal numbers.

    >>> from duo_oracle.models.families.toy import random_toy
    >>> toy = random_toy(seed=0, n_letters=3, n_vocabulary=8)
    >>> full = RoutingPattern.uniform(Branch.BIG, 3)
    >>> scorer = FixedScorer(toy, 0, torch.tensor([5, 2, 7]), full, SkipReading.FFN)  # three tokens, two scored places
    >>> patterns_RL = np.array([[2, 2, 2], [1, 1, 2]], dtype=np.uint8)  # BBB and ssB
    >>> scorer.n_places, scorer.score(np.array([0, 1]), patterns_RL).shape
    (2, (2,))
    """

    n_places: int
    n_labels: int
    n_targets: int
    """The labels, and one more where the places have a reference."""

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        """-ln p(label) in nats, float64 (R,), of every row; its expectation for the reference.

        A row is a place, a pattern, and which of the place's targets (0, the default, is the real label; n_labels the reference).
        """


def scored(scorer: Scorer, place_R: np.ndarray, branches_RL: np.ndarray, target_R: np.ndarray | None = None) -> np.ndarray:
    """What `score` says, where no pattern may fail: a strategy's trial may. Raises InputError for a loss that is not finite."""
    return finite(scorer.score(place_R, branches_RL, target_R), "a loss")


class _Targets:
    """What losses subtract from the log-sum-exp: the logit of a place's label, or its expectation under the place's reference."""

    def __init__(self, head: Head, label_NY: Tensor, reference: Reference | None) -> None:
        self._head, self._label_NY = head, label_NY
        self._reference = None if reference is None else head.distributions(reference)

    def logits(self, h_MD: Tensor, place_M: np.ndarray, target_M: np.ndarray) -> Tensor:
        """The logit of every row's target, shape (M,)."""
        n_labels = self._label_NY.shape[1]
        expected = np.flatnonzero(target_M >= n_labels)
        label_M = self._label_NY[torch.from_numpy(place_M), torch.from_numpy(np.minimum(target_M, n_labels - 1))]
        logit_M = self._head.label_logits(h_MD, label_M)
        if len(expected):
            assert self._reference is not None
            rows, place = (torch.from_numpy(index).to(h_MD.device) for index in (expected, place_M[expected]))
            logit_M[rows] = self._head.expected_logit(h_MD[rows], self._reference, place)
        return logit_M


class PlaceScorer:
    """What the contexts share: a forest of the rows' patterns, walked once, and the head on its leaves."""

    def __init__(
        self,
        model: OracleModel,
        x_ND: Tensor,
        target_N: Tensor,
        skip: SkipReading,
        null: NullLabels,
        names: Sequence[tuple[int, int]],
        reference: Reference | None = None,
    ) -> None:
        self._model, self._skip, self._x_ND = model, skip, x_ND
        self._head = Head(model)
        self.n_places, self.n_labels = len(x_ND), 1 + null.draws
        self.n_targets = self.n_labels + (reference is not None)
        label_NY = target_N[:, None]
        if null.draws:
            places = np.arange(self.n_places)
            big_NL = np.full((self.n_places, model.n_letters), Branch.BIG, dtype=np.uint8)
            h_big_ND = torch.cat([self._states(places[rows], big_NL[rows]) for rows in chunks(self.n_places, _MOST_ROWS)])
            label_NY = null.labels(self._head, h_big_ND, target_N, names)
        self._targets = _Targets(self._head, label_NY, reference)

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        label_R = np.zeros(len(place_R), dtype=np.int64) if label_R is None else label_R
        loss_R = np.empty(len(place_R))
        for rows in chunks(len(place_R), _MOST_ROWS):
            h_MD, leaf_R = self._distinct_states(place_R[rows], branches_RL[rows])
            lse_R = self._head.lse(h_MD)[leaf_R]
            loss_R[rows] = (lse_R - self._targets.logits(h_MD[leaf_R], place_R[rows], label_R[rows])).double().cpu().numpy()
        return loss_R

    def entropies(self, place_N: np.ndarray) -> np.ndarray:
        """The entropy of all-big's distribution at some places, in nats: float64 (N,)."""
        big_NL = np.full((len(place_N), self._model.n_letters), Branch.BIG, dtype=np.uint8)
        return self._head.entropy(self._states(place_N, big_NL)).cpu().numpy()

    def _states(self, place_R: np.ndarray, branches_RL: np.ndarray) -> Tensor:
        h_MD, leaf_R = self._distinct_states(place_R, branches_RL)
        return h_MD[leaf_R]

    def _distinct_states(self, place_R: np.ndarray, branches_RL: np.ndarray) -> tuple[Tensor, Tensor]:
        """h of every distinct (place, pattern), and which of them each row is."""
        used_N, root_R = np.unique(place_R, return_inverse=True)
        trie, leaf_R = trie_of(branches_RL, root_R, len(used_N))
        used = torch.from_numpy(used_N).to(self._x_ND.device)
        attend = attend_forest(trie, self._attend(used), self._model.routed_layers)
        x_P1D = descend(self._model, trie.levels, 0, self._x_ND[used][:, None], attend, self._skip)
        return self._head.states(x_P1D[:, 0]), torch.from_numpy(leaf_R).to(x_P1D.device)

    def _attend(self, place_N: Tensor) -> Attend:
        raise AssertionError("a context says how its places attend")


class FixedScorer(PlaceScorer):
    """The positions of one sequence whose earlier tokens took `routing`: one pattern, or mask_TL with a row per position; the first
    `n_warm` took all-big, and are no places.

    `token_id_T` is int64, at least two tokens.
    """

    def __init__(
        self,
        model: OracleModel,
        sequence: int,
        token_id_T: Tensor,
        routing: RoutingPattern | np.ndarray,
        skip: SkipReading,
        null: NullLabels | None = None,
        n_warm: int = 0,
        reference: Reference | None = None,
    ) -> None:
        self.context = FixedContext(model, token_id_T[:-1], routing, skip, n_warm)
        names = [(sequence, position) for position in range(n_warm, len(token_id_T) - 1)]
        x_ND, target_N = self.context.start_TD[n_warm:], token_id_T[n_warm + 1 :]
        super().__init__(model, x_ND, target_N, skip, null or NullLabels(), names, reference)

    def route(self, choose: Choose) -> tuple[np.ndarray, Tensor]:
        """branches_NL (uint8) that `choose` gives every place, layer by layer, from its own state there; and the states h_ND that
        the head then multiplies."""
        attend = self._attend(torch.arange(self.n_places, device=self._x_ND.device))
        branches_NL, x_ND = descend_choosing(self._model, self._x_ND, attend, choose, self._skip)
        return branches_NL, self._head.states(x_ND)

    def _attend(self, place_N: Tensor) -> Attend:
        return self.context.attend(place_N + self.context.n_warm)


class CommittedScorer(PlaceScorer):
    """One position of several sequences, after the patterns committed for the tokens before it.

    `sequence_N` are the numbers of the step's sequences, by which labels are drawn; `reference` is of the step's rows.
    """

    def __init__(
        self,
        model: OracleModel,
        step: Step,
        sequence_N: Sequence[int],
        skip: SkipReading,
        null: NullLabels | None = None,
        reference: Reference | None = None,
    ) -> None:
        self._step = step
        names = [(sequence, step.position) for sequence in sequence_N]
        super().__init__(model, step.x_ND, step.target_N, skip, null or NullLabels(), names, reference)

    def _attend(self, place_N: Tensor) -> Attend:
        return self._step.attend(place_N)


class SameScorer:
    """The positions of one sequence all of whose tokens take the candidate pattern, but for the first `n_warm`, which take all-big
    and are no places.

    One walk of the sequence scores a pattern everywhere.
    """

    def __init__(
        self,
        model: OracleModel,
        sequence: int,
        token_id_T: Tensor,
        skip: SkipReading,
        null: NullLabels | None = None,
        n_warm: int = 0,
        reference: Reference | None = None,
    ) -> None:
        self._model, self._skip = model, skip
        self._head = Head(model)
        self._context = SameContext(model, token_id_T[:-1], n_warm)
        self._n_tokens = len(token_id_T) - 1
        null = null or NullLabels()
        self.n_places, self.n_labels = self._n_tokens - n_warm, 1 + null.draws
        self.n_targets = self.n_labels + (reference is not None)
        label_NY = token_id_T[n_warm + 1 :, None]
        if null.draws:
            h_big_TD = self._states(np.full((1, model.n_letters), Branch.BIG, dtype=np.uint8))[0][0]
            names = [(sequence, position) for position in range(n_warm, self._n_tokens)]
            label_NY = null.labels(self._head, h_big_TD, token_id_T[n_warm + 1 :], names)
        self._targets = _Targets(self._head, label_NY, reference)

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        label_R = np.zeros(len(place_R), dtype=np.int64) if label_R is None else label_R
        distinct_PL, pattern_R = np.unique(branches_RL, axis=0, return_inverse=True)
        pattern_R = pattern_R.ravel()
        loss_R = np.empty(len(place_R))
        for patterns in chunks(len(distinct_PL), max(1, _MOST_ROWS // self._n_tokens)):
            h_PTD, leaf_P = self._states(distinct_PL[patterns])
            rows = np.flatnonzero((patterns.start <= pattern_R) & (pattern_R < patterns.stop))
            h_MD = h_PTD[leaf_P[torch.from_numpy(pattern_R[rows] - patterns.start)], torch.from_numpy(place_R[rows])]
            logit_M = self._targets.logits(h_MD, place_R[rows], label_R[rows])
            loss_R[rows] = (self._head.lse(h_MD) - logit_M).double().cpu().numpy()
        return loss_R

    def _states(self, branches_PL: np.ndarray) -> tuple[Tensor, Tensor]:
        """h of every distinct pattern over the sequence, and which of them each pattern is."""
        trie, leaf_P = trie_of(branches_PL)
        x_PTD = descend(self._model, trie.levels, 0, self._context.start_ND[None], self._context.attend, self._skip)
        return self._head.states(x_PTD), torch.from_numpy(leaf_P)
