"""Ridge regressions: equal to normal equations, blind to the rows they predict, and of the best strength."""

import numpy as np
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.statistics.ridge import RIDGES, cross_fitted, explained, fit, folds_of, means_of_others


def rows(n=240, noise=0.5, seed=0):
    generator = np.random.default_rng(seed)
    x_NF = generator.normal(size=(n, 6)) + 3
    slope_FC = generator.normal(size=(6, 2))
    return x_NF, 7 + x_NF @ slope_FC + noise * generator.normal(size=(n, 2)), np.repeat(np.arange(n // 10), 10)


def test_a_regression_solves_its_normal_equations():
    x_NF, y_NC, _ = rows()
    linear = fit(x_NF, y_NC, np.zeros(len(x_NF)), (0.3,))
    centred_NF = x_NF - x_NF.mean(axis=0)
    gram_FF = centred_NF.T @ centred_NF
    penalty = 0.3 * np.trace(gram_FF) / 6
    slope_FC = np.linalg.solve(gram_FF + penalty * np.eye(6), centred_NF.T @ (y_NC - y_NC.mean(axis=0)))
    np.testing.assert_allclose(linear.slope_FC, slope_FC, rtol=1e-9)
    np.testing.assert_allclose(linear(x_NF).mean(axis=0), y_NC.mean(axis=0))


def test_predictions_see_nothing_of_their_own_fold():
    x_NF, y_NC, document_N = rows()
    fold_N = folds_of(document_N, 4)
    before = cross_fitted(x_NF, y_NC, fold_N)
    mine = fold_N == 2
    changed = y_NC.copy()
    changed[mine] = 1e3
    np.testing.assert_array_equal(cross_fitted(x_NF, changed, fold_N)[mine], before[mine])
    np.testing.assert_array_equal(means_of_others(changed, fold_N)[mine], means_of_others(y_NC, fold_N)[mine])
    assert (cross_fitted(x_NF, changed, fold_N)[~mine] != before[~mine]).any()


def test_the_strength_is_chosen_on_other_documents():
    x_NF, y_NC, document_N = rows(noise=0.01)
    assert fit(x_NF, y_NC, folds_of(document_N, 4)).ridge == min(RIDGES)
    noise_NC = np.random.default_rng(1).normal(size=y_NC.shape)
    assert fit(x_NF, noise_NC, folds_of(document_N, 4)).ridge >= 1e2


def test_what_is_explained():
    x_NF, y_NC, document_N = rows()
    fold_N = folds_of(document_N, 4)
    baseline_NC = means_of_others(y_NC, fold_N)
    assert explained(y_NC, y_NC, baseline_NC) == 1
    assert explained(y_NC, baseline_NC, baseline_NC) == 0
    assert explained(y_NC, cross_fitted(x_NF, y_NC, fold_N), baseline_NC) > 0.8
    noise_NC = np.random.default_rng(1).normal(size=y_NC.shape)
    assert explained(noise_NC, cross_fitted(x_NF, noise_NC, fold_N), means_of_others(noise_NC, fold_N)) < 0.05


def test_folds_are_whole_documents():
    document_N = np.repeat(["a", "b", "c", "d", "e"], [9, 1, 5, 3, 6])
    fold_N = folds_of(document_N, 3)
    assert all(len(set(fold_N[document_N == name])) == 1 for name in "abcde")
    assert np.bincount(fold_N).tolist() == [9, 7, 8]
    assert len(set(folds_of(document_N, 99))) == 5
    with pytest.raises(InputError, match="there is one"):
        folds_of(np.array(["a", "a"]), 3)
