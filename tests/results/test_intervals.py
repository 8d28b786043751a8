"""Intervals come from whole documents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from results.intervals import bootstrap, bootstrap_sums, contrast, student_quantile, widened_tail


def documents(rng: np.random.Generator, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.integers(5, 60, n)
    document_N = np.repeat(np.arange(n), sizes)
    return rng.normal(0, spread, n)[document_N] + rng.normal(0, 1, len(document_N)), document_N


def test_the_mean_is_over_tokens_not_over_documents() -> None:
    (estimate,) = bootstrap(np.array([[1.0], [1.0], [1.0], [5.0]]), np.array([0, 0, 0, 1]))
    assert estimate.mean == 2.0
    assert (estimate.n_tokens, estimate.n_documents) == (4, 2)


def test_the_interval_holds_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.intervals.RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    for n_documents in (8, 30):
        held = 0
        for seed in range(100):
            values_N, document_N = documents(rng, n_documents)
            (estimate,) = bootstrap(values_N[:, None], document_N, seed)
            held += estimate.low <= 0 <= estimate.high
        assert 0.86 <= held / 100 <= 0.99


def test_taking_tokens_for_independent_would_be_too_narrow() -> None:
    values_N, document_N = documents(np.random.default_rng(1), 20)
    (honest,) = bootstrap(values_N[:, None], document_N)
    (naive,) = bootstrap(values_N[:, None], np.arange(len(values_N)))
    assert honest.high - honest.low > 2 * (naive.high - naive.low)


def test_a_difference_of_one_documents_tokens_is_paired() -> None:
    values_N, document_N = documents(np.random.default_rng(2), 20, spread=3.0)
    other_N = values_N + 0.1
    first, second, difference = bootstrap(np.stack([other_N, values_N, other_N - values_N], axis=1), document_N)
    assert difference.mean == pytest.approx(0.1)
    assert difference.high - difference.low < 1e-9 < first.high - first.low
    assert first.low - second.low == pytest.approx(0.1)


def test_sums_and_tokens_give_the_same_answer() -> None:
    values_N, document_N = documents(np.random.default_rng(3), 12)
    sums_D1 = np.bincount(document_N, weights=values_N)[:, None]
    counts_D1 = np.bincount(document_N)[:, None].astype(float)
    (by_tokens,), (by_sums,) = bootstrap(values_N[:, None], document_N), bootstrap_sums(sums_D1, counts_D1)
    assert by_tokens.low == pytest.approx(by_sums.low)
    assert by_tokens.high == pytest.approx(by_sums.high)


def test_the_same_seed_gives_the_same_interval_and_names_do_not_matter() -> None:
    values_N, document_N = documents(np.random.default_rng(4), 10)
    names_N = np.array([f"doc{i:02}" for i in document_N])
    assert bootstrap(values_N[:, None], document_N) == bootstrap(values_N[:, None], names_N)
    assert bootstrap(values_N[:, None], document_N, seed=1) != bootstrap(values_N[:, None], document_N, seed=2)


def test_one_document_has_a_mean_and_no_interval() -> None:
    (estimate,) = bootstrap(np.array([[1.0], [3.0]]), np.array([7, 7]))
    assert estimate.mean == 2.0
    assert math.isnan(estimate.low)
    assert str(estimate) == "2.000"


def test_unknown_values_are_left_out_of_their_column() -> None:
    values_NM = np.array([[1.0, np.nan], [2.0, 4.0], [3.0, 6.0]])
    first, second = bootstrap(values_NM, np.array([0, 1, 2]))
    assert (first.mean, second.mean) == (2.0, 5.0)
    assert (second.n_tokens, second.n_documents) == (2, 2)
    assert math.isfinite(second.low)


def test_a_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="one token or more"):
        bootstrap(np.empty((0, 1)), np.empty(0, dtype=int))
    with pytest.raises(ValueError, match="one token or more"):
        bootstrap(np.array([[np.nan]]), np.array([0]))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (30, 2.0423), (1000, 1.9623)])
def test_students_quantiles_are_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-4)


def test_few_documents_widen_the_interval() -> None:
    tails = [widened_tail(n) for n in (2, 5, 20, 1000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(0.025, rel=0.02)


def test_a_contrast_of_two_groups_is_paired_by_document() -> None:
    rng = np.random.default_rng(5)
    document_N = np.repeat(np.arange(15), 20)
    value_N = rng.normal(0, 3, 15)[document_N] + rng.normal(0, 0.1, 300)
    first_N = np.tile([True, False], 150)
    value_N = value_N + 0.5 * first_N
    masks = (first_N, ~first_N)
    sums_DM = np.stack([np.bincount(document_N, weights=value_N * mask) for mask in masks], axis=1)
    counts_DM = np.stack([np.bincount(document_N, weights=mask) for mask in masks], axis=1)
    difference = contrast(sums_DM, counts_DM, np.array([1.0, -1.0]))
    (mean,) = bootstrap(value_N[:, None], document_N)
    assert difference.low < 0.5 < difference.high
    assert difference.high - difference.low < 0.1 * (mean.high - mean.low)
    with pytest.raises(ValueError, match="one token or more"):
        contrast(sums_DM, counts_DM * [1.0, 0.0], np.array([1.0, -1.0]))
