"""A scorer of any set of patterns equals plain forward passes, in the order given."""

import numpy as np
import pytest
import torch

from duo_oracle.oracle.contexts import Context, ContextKind, SkipReading, parse_context
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.lanes import left_to_right
from duo_oracle.oracle.engine.scorer import CommittedScorer, FixedScorer, SameScorer
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from tests.small_models import brute_force, plain_losses, random_tokens, small_duo


def random_rows(n_rows, n_places, n_letters, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(n_places, size=n_rows), generator.integers(3, size=(n_rows, n_letters)).astype(np.uint8)


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("context", ["same", "full", "cheapest", "Bs.B"])
def test_rows_of_any_positions_score_as_plain_passes_do(context, skip):
    model, token_id_T = small_duo(n_letters=4), random_tokens(6)
    where = parse_context(context, 4)
    if where.kind is ContextKind.SAME:
        scorer = SameScorer(model, 0, token_id_T, skip)
    else:
        scorer = FixedScorer(model, 0, token_id_T, where.pattern, skip)
    place_R, branches_RL = random_rows(40, 5, 4)
    branches_RL[7] = branches_RL[3]  # a repeat scores as its twin
    place_R[7] = place_R[3]
    loss_R = scorer.score(place_R, branches_RL)
    assert loss_R[7] == loss_R[3]
    for place, branches_L, loss in zip(place_R, branches_RL, loss_R, strict=True):
        expected = brute_force(model, token_id_T, int(place), branches_L[None], where, skip, branches_RL[:5])
        assert loss == pytest.approx(expected[0], abs=1e-4)


@pytest.mark.parametrize("skip", list(SkipReading))
def test_lanes_decided_side_by_side_score_as_each_alone(skip):
    model = small_duo(n_letters=4)
    sequences = [random_tokens(5, seed=seed) for seed in range(3)]
    generator = np.random.default_rng(1)
    committed_NTL = generator.integers(3, size=(3, 4, 4)).astype(np.uint8)
    for step in left_to_right(model, sequences, skip):
        position = step.position
        scorer = CommittedScorer(model, step, [0, 1, 2], skip)
        place_R, branches_RL = random_rows(20, 3, 4, seed=position)
        loss_R = scorer.score(place_R, branches_RL)
        for place, branches_L, loss in zip(place_R, branches_RL, loss_R, strict=True):
            chosen_TL = committed_NTL[place]
            where = Context(ContextKind.COMMITTED)
            expected = brute_force(model, sequences[place], position, branches_L[None], where, skip, chosen_TL)
            assert loss == pytest.approx(expected[0], abs=1e-4)
        step.commit(committed_NTL[:, position])
    assert position == 3


def test_drawn_labels_follow_the_all_big_distribution_and_their_seed():
    model, token_id_T = small_duo(n_letters=2, n_vocabulary=5), random_tokens(3, 5)
    head = Head(model)
    big_TL = np.full((1, 2, 2), Branch.BIG, dtype=np.uint8)
    logits_TV = model.forward(token_id_T[:-1][None], torch.from_numpy(big_TL), SkipReading.FFN)[0]
    x_ND = torch.linalg.lstsq(head.w_VD, logits_TV.T).solution.T  # any state with these logits
    null = NullLabels(draws=4_000, seed=1)
    label_NY = null.labels(head, x_ND, token_id_T[1:], [(0, 0), (0, 1)])
    assert torch.equal(label_NY[:, 0], token_id_T[1:])
    assert torch.equal(label_NY, null.labels(head, x_ND, token_id_T[1:], [(0, 0), (0, 1)]))
    shares_NV = torch.stack([torch.bincount(labels, minlength=5) for labels in label_NY[:, 1:]]) / 4_000
    expected_NV = torch.softmax(head.probabilities(x_ND).log(), dim=1)
    torch.testing.assert_close(shares_NV.double(), expected_NV, atol=0.04, rtol=0)


def test_a_place_is_scored_under_each_of_its_labels():
    model, token_id_T = small_duo(n_letters=3), random_tokens(4)
    pattern = RoutingPattern.parse("BBB")
    null = NullLabels(draws=3, seed=5)
    scorer = FixedScorer(model, 9, token_id_T, pattern, SkipReading.FFN, null)
    place_R, label_R = (axis.ravel() for axis in np.mgrid[:3, :4])
    loss_NY = scorer.score(place_R, np.tile(np.uint8([1, 2, 0]), (12, 1)), label_R).reshape(3, 4)
    mask_1TL = np.full((1, 3, 3), 2, dtype=np.uint8)
    big_NL = np.full((3, 3), 2, dtype=np.uint8)
    expected_N = plain_losses(model, token_id_T, mask_1TL, SkipReading.FFN)[0]
    np.testing.assert_allclose(scorer.score(np.arange(3), big_NL), expected_N, atol=1e-4)
    assert scorer.n_labels == 4
    assert len(np.unique(loss_NY.round(6))) > 3
