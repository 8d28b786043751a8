"""The landscape: the transform against its definition, and variances whose shares are known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.sql import query
from duo_oracle.results.statistics.landscape import landscape, spectrum
from tests.results.synthetic import Synthetic


@dataclass(frozen=True)
class Known(Synthetic):
    """Losses that are a sum of layers' effects, and, `pair` times as large, of the product of the first two layers."""

    pair: float = 0.0

    def loss_NP(self, sequence: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, sequence))
        effect_NL = rng.normal(size=(self.length - 1, self.n_letters))
        sign_PL = np.where(self.branches_PL == Branch.BIG, 1, -1)
        return (20 + effect_NL @ sign_PL.T + self.pair * effect_NL[:, :1] * sign_PL[:, 0] * sign_PL[:, 1]).astype(np.float32)


def test_the_spectrum_is_the_mean_of_the_losses_times_the_product_of_signs() -> None:
    loss_NP = np.random.default_rng(0).normal(size=(3, 16))
    number_P = np.arange(16)
    for subset in range(16):
        sign_P = np.array([(-1) ** (subset & ~number).bit_count() for number in number_P])
        assert spectrum(loss_NP)[:, subset] == pytest.approx((loss_NP * sign_P).mean(axis=1))


def test_the_squares_of_the_spectrum_add_up_to_the_variance() -> None:
    loss_NP = np.random.default_rng(1).normal(size=(5, 64))
    assert (spectrum(loss_NP)[:, 1:] ** 2).sum(axis=1) == pytest.approx(loss_NP.var(axis=1))


@pytest.mark.parametrize(("n_branches", "n_letters"), [(2, 4), (3, 3), (4, 3), (9, 2), (1, 2)])
def test_coefficients_by_order_are_the_variance_of_what_sets_of_layers_add(n_branches: int, n_letters: int) -> None:
    """The parts of the losses by inclusion and exclusion of conditional means, as the decomposition is defined."""
    loss_b = np.random.default_rng(n_branches).normal(size=(n_branches,) * n_letters)
    parts: dict[tuple[int, ...], np.ndarray] = {}
    for size in range(n_letters + 1):
        for layers in combinations(range(n_letters), size):
            mean = loss_b.mean(axis=tuple(set(range(n_letters)) - set(layers)), keepdims=True)
            parts[layers] = mean - sum(part for within, part in parts.items() if set(within) < set(layers))
    wanted = [sum((part**2).mean() for layers, part in parts.items() if len(layers) == order) for order in range(1, n_letters + 1)]
    # of a pattern's number the first layer's digit is the lowest
    w_P = spectrum(loss_b.transpose().reshape(1, -1), n_branches)[0]
    digit_PL = np.arange(len(w_P))[:, None] // n_branches ** np.arange(n_letters) % n_branches
    order_P = (digit_PL > 0).sum(axis=1)
    assert [(w_P[order_P == order] ** 2).sum() for order in range(1, n_letters + 1)] == pytest.approx(wanted)
    assert (w_P[1:] ** 2).sum() == pytest.approx(loss_b.var())


@pytest.mark.parametrize("context", ["full", "committed"])
def test_additive_losses_have_all_their_variance_in_order_1(tmp_path: Path, context: str) -> None:
    found = landscape(Known(budgets="any", context=context).write(tmp_path))
    assert [share.mean for share in found.share_O] == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_the_share_of_a_pair_of_layers_is_its_variance(tmp_path: Path) -> None:
    asked = Known(pair=1.0, budgets="any")
    found = landscape(asked.write(tmp_path))
    squares = np.zeros(2)
    for sequence in range(asked.documents * asked.windows):
        effect_NL = np.random.default_rng((asked.seed, sequence)).normal(size=(asked.length - 1, asked.n_letters))
        squares += (effect_NL**2).sum(), (effect_NL[:, 0] ** 2).sum()
    assert found.share_O[0].mean == pytest.approx(squares[0] / squares.sum(), rel=1e-5)
    assert found.share_O[1].mean == pytest.approx(squares[1] / squares.sum(), rel=1e-5)
    assert found.deviation == pytest.approx(np.sqrt(squares.sum() / found.share_O[0].n_tokens), rel=1e-5)


def test_layers_effects_are_twice_their_coefficients(tmp_path: Path) -> None:
    asked = Known(budgets="any")
    found = landscape(asked.write(tmp_path))
    effect_NL = np.concatenate(
        [
            np.random.default_rng((asked.seed, sequence)).normal(size=(asked.length - 1, asked.n_letters))
            for sequence in range(asked.documents * asked.windows)
        ]
    )
    assert [effect.mu.mean for effect in found.effects] == pytest.approx(2 * effect_NL.mean(axis=0), abs=1e-5)
    assert [effect.sigma for effect in found.effects] == pytest.approx(2 * effect_NL.std(axis=0), abs=1e-5)


def test_the_question_and_the_transform_agree(tmp_path: Path) -> None:
    run = Known(pair=0.7, budgets="any").write(tmp_path)
    found, rows = landscape(run), query([run], "landscape").to_pylist()
    assert [row["mu"] for row in rows] == pytest.approx([effect.mu.mean for effect in found.effects], abs=1e-5)
    assert sum(row["share_of_variance"] for row in rows) == pytest.approx(found.share_O[0].mean, abs=1e-5)
    assert [row["helps"] for row in rows] == pytest.approx([effect.share_better for effect in found.effects])


def test_the_report_has_an_order_and_a_layer_per_line(tmp_path: Path) -> None:
    lines = str(landscape(Known(budgets="any").write(tmp_path))).splitlines()
    assert len(lines) == 1 + 1 + 5 + 1 + 1 + 5


def test_losses_of_some_patterns_alone_have_no_landscape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keeps some"):
        landscape(Synthetic(context="committed", budgets="2").write(tmp_path / "exact"), "2")
    with pytest.raises(ValueError, match="kept no losses"):
        landscape(Synthetic(keep=None).write(tmp_path / "none"))
