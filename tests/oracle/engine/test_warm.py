"""Warm tokens take all-big in every context and are not searched: against plain passes of the whole sequence."""

import numpy as np
import pytest

from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import ContextKind, SkipReading, parse_context
from duo_oracle.oracle.engine import exact
from duo_oracle.oracle.engine.exact import ExactOracle
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, FixedScorer, SameScorer
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.spaces import parse_branches
from tests.small_models import all_patterns, plain_losses, random_tokens, small_duo

N_LETTERS = 3
CONTEXTS = ["committed", "same", "full", "cheapest", "s.B", "mask"]


def by_plain_passes(model, token_id_T, position, patterns_PL, context, skip, routing_TL, n_warm):
    """The loss of every pattern at a position; the first `n_warm` tokens are all-big, `routing_TL` is what the others took."""
    n_scored = len(token_id_T) - 1
    if context == "same":
        mask_PTL = np.repeat(patterns_PL[:, None], n_scored, axis=1)
    else:
        mask_PTL = np.repeat(routing_TL[None], len(patterns_PL), axis=0)
    mask_PTL[:, position] = patterns_PL
    mask_PTL[:, :n_warm] = Branch.BIG
    return plain_losses(model, token_id_T, mask_PTL, skip)[:, position]


def routing_of(context, n_tokens, chosen_TL=None):
    if context == "mask":
        return np.random.default_rng(4).integers(3, size=(n_tokens, N_LETTERS)).astype(np.uint8)
    if context in ("committed", "same"):
        return chosen_TL
    return np.tile(np.array(parse_context(context, N_LETTERS).pattern.branches, dtype=np.uint8), (n_tokens, 1))


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_oracle_behind_warm_tokens_is_that_of_plain_passes(context, skip, monkeypatch):
    monkeypatch.setattr(exact, "_FEW_LEAVES", 0)
    monkeypatch.setattr(exact, "_TARGET_ROWS", 64)
    model, branches, budgets = small_duo(), parse_branches(".sB"), parse_budgets("1,any", N_LETTERS)
    token_ids, n_warm = [random_tokens(n, seed=n) for n in (7, 5, 8)], [3, 0, 6]
    oracle = ExactOracle(model, branches, budgets, skip)
    if context == "committed":
        found = oracle.in_committed_context([0, 1, 2], token_ids, n_warm)
    elif context == "same":
        found = [oracle.in_same_context(0, t, w) for t, w in zip(token_ids, n_warm, strict=True)]
    else:
        found = [oracle.in_fixed_context(0, t, routing_of(context, len(t) - 1), w) for t, w in zip(token_ids, n_warm, strict=True)]
    patterns_PL = all_patterns(N_LETTERS, branches)
    for token_id_T, warm, paths in zip(token_ids, n_warm, found, strict=True):
        positions = np.arange(warm, len(token_id_T) - 1)
        assert paths.position_R.tolist() == np.repeat(positions, len(budgets)).tolist()
        for index, budget in enumerate(budgets):
            admitted_PL = patterns_PL[budget.allows(N_LETTERS)[(patterns_PL == Branch.BIG).sum(axis=1)]]
            rows = np.flatnonzero(paths.budget_R == index)
            chosen_TL = np.full((len(token_id_T) - 1, N_LETTERS), Branch.BIG, dtype=np.uint8)
            chosen_TL[warm:] = paths.branches_RL[rows]
            routing_TL = routing_of(context, len(token_id_T) - 1, chosen_TL)
            for position, row in zip(positions, rows, strict=True):
                losses = by_plain_passes(model, token_id_T, position, admitted_PL, context, skip, routing_TL, warm)
                assert paths.loss_R[row] == pytest.approx(losses.min(), abs=1e-4)
                uniform_PL = np.array([[Branch.SMALL] * N_LETTERS, [Branch.BIG] * N_LETTERS], dtype=np.uint8)
                small, big = by_plain_passes(model, token_id_T, position, uniform_PL, context, skip, routing_TL, warm)
                assert (paths.loss_cheapest_R[row], paths.loss_full_R[row]) == pytest.approx((small, big), abs=1e-4)


@pytest.mark.parametrize("n_warm", [1, 4])
@pytest.mark.parametrize(
    ("context", "layers"), [(name, None) for name in CONTEXTS[1:]] + [(name, (1,)) for name in ("same", "full", "cheapest")]
)
def test_scorers_behind_warm_tokens_score_as_plain_passes_do(context, n_warm, layers):
    model, skip, token_id_T = small_duo(), SkipReading.FFN, random_tokens(7)
    searched = model if layers is None else SomeLayersRouted(model, layers)
    routing_TL = routing_of(context, 6)
    if layers is not None and routing_TL is not None:
        routing_TL = np.where(np.isin(np.arange(N_LETTERS), layers), routing_TL, Branch.BIG).astype(np.uint8)
    if context == "same":
        scorer = SameScorer(searched, 0, token_id_T, skip, n_warm=n_warm)
    else:
        given = routing_TL if layers is None else routing_TL[:, list(layers)]
        scorer = FixedScorer(searched, 0, token_id_T, given, skip, n_warm=n_warm)
    assert scorer.n_places == 6 - n_warm
    letters_PL = all_patterns(searched.n_letters, parse_branches(".sB"))
    patterns_PL = letters_PL
    if layers is not None:
        patterns_PL = np.full((len(letters_PL), N_LETTERS), Branch.BIG, dtype=np.uint8)
        patterns_PL[:, list(layers)] = letters_PL
    for place in range(scorer.n_places):
        found = scorer.score(np.full(len(letters_PL), place), letters_PL)
        expected = by_plain_passes(model, token_id_T, n_warm + place, patterns_PL, context, skip, routing_TL, n_warm)
        assert found == pytest.approx(expected, abs=1e-4)


def test_lanes_whose_warm_tokens_end_at_different_places_commit_each_their_own():
    model, skip = small_duo(), SkipReading.FFN
    token_ids, n_warm = [random_tokens(n, seed=n) for n in (6, 5, 6)], [1, 3, 2]
    generator = np.random.default_rng(2)
    masks = [generator.integers(3, size=(len(t) - 1, N_LETTERS)).astype(np.uint8) for t in token_ids]
    seen = []
    for step in left_to_right(model, token_ids, skip, n_warm):
        scorer = CommittedScorer(model, step, list(step.lanes), skip)
        seen += [(lane, step.position) for lane in step.lanes]
        branches_NL = np.stack([masks[lane][step.position] for lane in step.lanes])
        loss_N = scorer.score(np.arange(len(step.lanes)), branches_NL)
        for lane, branches_L, loss in zip(step.lanes, branches_NL, loss_N, strict=True):
            expected = by_plain_passes(
                model, token_ids[lane], step.position, branches_L[None], "committed", skip, masks[lane], n_warm[lane]
            )
            assert loss == pytest.approx(expected[0], abs=1e-4)
        step.commit(branches_NL)
    assert sorted(seen) == [(lane, p) for lane in range(3) for p in range(n_warm[lane], len(token_ids[lane]) - 1)]


@pytest.mark.parametrize("context", [ContextKind.SAME, ContextKind.FIXED])
def test_labels_are_drawn_as_without_warm_tokens_where_all_is_big(context):
    """A warm token is an all-big one: in the full context nothing behind it differs."""
    model, token_id_T, null = small_duo(), random_tokens(8), NullLabels(draws=2, seed=5)
    oracle = ExactOracle(model, parse_branches("sB"), parse_budgets("any", N_LETTERS), SkipReading.FFN, null)
    if context is ContextKind.SAME:
        same = oracle.in_same_context(7, token_id_T, 3)
        assert np.isfinite(same.null_gain_R).all()
        return
    big = parse_context("full", N_LETTERS).pattern
    every, behind = oracle.in_fixed_context(7, token_id_T, big), oracle.in_fixed_context(7, token_id_T, big, 3)
    assert np.array_equal(every.branches_RL[3:], behind.branches_RL)
    assert np.allclose(every.null_gain_R[3:], behind.null_gain_R, atol=1e-5)
