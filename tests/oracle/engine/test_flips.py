"""A flip's own and later effects are those of plain passes, one for each flip; what a flip does not touch is exactly as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duo_oracle.models.route_layers import SomeLayersRouted
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine import flips
from duo_oracle.oracle.engine.flips import FlippedSequence
from duo_oracle.oracle.engine.head import Head
from duo_oracle.oracle.engine.reference import reference_of
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.reference import Reference
from tests.small_models import random_tokens, small_duo

ALL = tuple(Branch)
N = 7  # scored positions


def log_probabilities(model: OracleModel, token_id_T: torch.Tensor, mask_TL: np.ndarray, skip: SkipReading) -> torch.Tensor:
    logits_TV = model.forward(token_id_T[None, :-1], torch.from_numpy(mask_TL)[None], skip)[0]
    return torch.log_softmax(logits_TV.double(), dim=1)


def brute_force(model: OracleModel, token_id_T: torch.Tensor, mask_TL: np.ndarray, skip: SkipReading, flip: tuple[int, int, int]):
    """Loss changes and KL at every position, by two plain passes."""
    position, letter, branch = flip
    flipped_TL = mask_TL.copy()
    flipped_TL[position, letter] = branch
    base_TV, flip_TV = (log_probabilities(model, token_id_T, mask, skip) for mask in (mask_TL, flipped_TL))
    place, target_T = torch.arange(len(mask_TL)), token_id_T[1:]
    loss_T = (base_TV - flip_TV)[place, target_T]
    return loss_T.numpy(), (base_TV.exp() * (base_TV - flip_TV)).sum(dim=1).numpy()


def some_reference(model: OracleModel, token_id_T: torch.Tensor, n: int) -> tuple[Reference, torch.Tensor]:
    """A random distribution at each of the last n scored positions, as the engine wants it and as it is."""
    generator = torch.Generator().manual_seed(1)
    log_q_NV = (2 * torch.randn((n, model.n_vocabulary), generator=generator, dtype=torch.float64)).log_softmax(dim=1)
    return reference_of(Head(model), log_q_NV, token_id_T[-n:]), log_q_NV.exp()


def models() -> dict[str, OracleModel]:
    whole = small_duo(2, n_letters=3, dtype=torch.float64)
    deep = small_duo(3, n_letters=5, dtype=torch.float64)
    return {"all layers": whole, "layers 1 and 3 of five": SomeLayersRouted(deep, (1, 3))}


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("ahead", [2, 100])
@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("uniform", [True, False])
def test_every_flip_is_the_difference_of_two_plain_passes(uniform: bool, name: str, ahead: int, skip: SkipReading) -> None:
    model, token_id_T = models()[name], random_tokens(N + 1, seed=4)
    mask_TL = np.random.default_rng(0).integers(0, 3, (N, model.n_letters)).astype(np.uint8)
    if uniform:
        mask_TL[:] = mask_TL[0]
    base = FlippedSequence(model, token_id_T, mask_TL, skip)
    for position in range(N):
        found = base.flips(position, ALL, ahead)
        assert len(found.letter_F) == 2 * model.n_letters
        n_rows = min(ahead + 1, N - position)
        for f, flip in enumerate(zip(found.letter_F.tolist(), found.after_F.tolist(), strict=True)):
            assert found.before_F[f] == mask_TL[position, flip[0]] != flip[1]
            loss_T, kl_T = brute_force(model, token_id_T, mask_TL, skip, (position, *flip))
            np.testing.assert_allclose(found.loss_FS[f], loss_T[position : position + n_rows], atol=1e-6)
            np.testing.assert_allclose(found.kl_FS[f], kl_T[position : position + n_rows], atol=1e-6)


@pytest.mark.parametrize("name", list(models()))
def test_what_a_reference_expects_is_the_mean_over_its_distribution(name: str) -> None:
    model, token_id_T, n_warm = models()[name], random_tokens(N + 1, seed=4), 2
    mask_TL = np.random.default_rng(0).integers(0, 3, (N, model.n_letters)).astype(np.uint8)
    reference, q_NV = some_reference(model, token_id_T, N - n_warm)
    base = FlippedSequence(model, token_id_T, mask_TL, SkipReading.FFN, reference)
    for position in range(n_warm, N):
        found = base.flips(position, ALL, 2)
        rows = slice(position - n_warm, position - n_warm + found.expected_FS.shape[1])
        for f, (letter, branch) in enumerate(zip(found.letter_F.tolist(), found.after_F.tolist(), strict=True)):
            flipped_TL = mask_TL.copy()
            flipped_TL[position, letter] = branch
            base_TV, flip_TV = (log_probabilities(model, token_id_T, mask, SkipReading.FFN) for mask in (mask_TL, flipped_TL))
            expected_N = (q_NV * (base_TV - flip_TV)[n_warm:]).sum(dim=1).numpy()
            np.testing.assert_allclose(found.expected_FS[f], expected_N[rows], atol=1e-6)
    assert np.isnan(FlippedSequence(model, token_id_T, mask_TL, SkipReading.FFN).flips(0, ALL, 2).expected_FS).all()


def test_a_large_vocabulary_is_compared_in_pieces_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, token_id_T = models()["all layers"], random_tokens(N + 1, seed=4)
    mask_TL = np.random.default_rng(0).integers(0, 3, (N, model.n_letters)).astype(np.uint8)
    reference, _ = some_reference(model, token_id_T, N)
    base = FlippedSequence(model, token_id_T, mask_TL, SkipReading.LAYER, reference)
    whole = base.flips(1, ALL, 5)
    monkeypatch.setattr(flips, "_LOGITS", 2 * model.n_vocabulary)  # two tokens at once
    pieces = base.flips(1, ALL, 5)
    for name in ("loss_FS", "kl_FS", "expected_FS"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=1e-12)


@pytest.mark.parametrize("skip", list(SkipReading))
def test_the_last_layers_letter_does_nothing_to_later_tokens(skip: SkipReading) -> None:
    model = small_duo(5, n_letters=3)  # float32: exactly nothing, not nothing to rounding
    base = FlippedSequence(model, random_tokens(N + 1), np.full((N, 3), Branch.BIG, np.uint8), skip)
    found = base.flips(1, ALL, 100)
    last = found.letter_F == 2
    assert np.all(found.loss_FS[last, 1:] == 0)
    assert np.all(found.kl_FS[last, 1:] == 0)
    assert np.all(found.kl_FS[last, 0] > 0)
    assert np.any(found.kl_FS[~last, 1:] > 0)


def test_where_big_and_small_are_one_ffn_a_flip_does_nothing() -> None:
    model = small_duo(6, n_letters=2)
    plain = model.ffn
    model.ffn = lambda layer, branch, x, before=None: plain(layer, Branch.BIG, x, before)  # type: ignore[method-assign]
    base = FlippedSequence(model, random_tokens(N + 1), np.full((N, 2), Branch.SMALL, np.uint8), SkipReading.FFN)
    found = base.flips(2, (Branch.SMALL, Branch.BIG), 100)
    np.testing.assert_allclose(found.loss_FS, 0, atol=3e-6)
    np.testing.assert_allclose(found.kl_FS, 0, atol=1e-9)


def test_without_kl_there_is_none_and_no_branch_beside_the_base_is_no_flip() -> None:
    model = small_duo(7, n_letters=2)
    base = FlippedSequence(model, random_tokens(N + 1), np.full((N, 2), Branch.BIG, np.uint8), SkipReading.FFN)
    with_kl, without = (base.flips(0, ALL, 3, kl) for kl in (True, False))
    assert np.isnan(without.kl_FS).all()
    assert np.array_equal(with_kl.loss_FS, without.loss_FS)
    assert base.flips(0, (Branch.BIG,), 3).loss_FS.shape == (0, 4)
