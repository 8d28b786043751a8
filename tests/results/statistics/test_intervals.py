"""Intervals come from whole documents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duo_oracle.results.statistics.intervals import (
    _resampled,
    bootstrap,
    bootstrap_sums,
    contrast,
    effective_documents,
    paired,
    perplexity_of,
    perplexity_text,
    student_quantile,
    widened_tail,
)


def documents(rng: np.random.Generator, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.integers(5, 60, n)
    document_N = np.repeat(np.arange(n), sizes)
    return rng.normal(0, spread, n)[document_N] + rng.normal(0, 1, len(document_N)), document_N


def test_a_perplexity_that_no_double_holds_is_infinite() -> None:
    assert perplexity_of(709.0) == math.exp(709.0)
    assert perplexity_of(709.8) == perplexity_of(1725.7) == math.inf
    assert [perplexity_text(loss) for loss in (0.0, 2.0, 20.0, 1725.7)] == ["1.00", "7.39", "4.9e+08", "inf"]


def test_the_mean_is_over_tokens_not_over_documents() -> None:
    (estimate,) = bootstrap(np.array([[1.0], [1.0], [1.0], [5.0]]), np.array([0, 0, 0, 1]))
    assert estimate.mean == 2.0
    assert (estimate.n_tokens, estimate.n_documents) == (4, 2)


@pytest.mark.parametrize(("n_documents", "shortest"), [(12, 5), (12, 100), (20, 5)])
def test_the_interval_covers_the_truth_of_19_runs_in_20(n_documents: int, shortest: int) -> None:
    rng = np.random.default_rng(0)
    covered = plain = 0
    for _ in range(1000):
        counts_D = rng.integers(shortest, 193, n_documents).astype(float)
        # the sum over a document's tokens of its effect and of their noise
        sums_D = counts_D * rng.normal(0, 0.3, n_documents) + rng.normal(0, np.sqrt(counts_D))
        (estimate,) = bootstrap_sums(sums_D[:, None], counts_D[:, None])
        covered += estimate.low <= 0 <= estimate.high
        low, high = np.quantile(_resampled(sums_D[:, None], counts_D[:, None], 0), [0.025, 0.975])
        plain += low <= 0 <= high
    assert 930 <= covered <= 970
    assert plain < covered  # the plain percentile interval holds it less often


def test_the_detectable_difference_is_shown_by_four_runs_of_five() -> None:
    rng = np.random.default_rng(1)
    n_documents, counts_D = 12, np.linspace(60, 190, 12)
    error = np.sqrt((counts_D**2 * 0.09 + counts_D).sum()) / counts_D.sum()
    estimates = []
    for _ in range(500):
        sums_D = counts_D * rng.normal(0, 0.3, n_documents) + rng.normal(0, np.sqrt(counts_D))
        estimates += bootstrap_sums(sums_D[:, None], counts_D[:, None])
    assert np.mean([estimate.error for estimate in estimates]) == pytest.approx(error, rel=0.1)
    size = float(np.mean([estimate.detectable for estimate in estimates]))
    shown = np.mean([estimate.low + size > 0 for estimate in estimates])  # the same runs with a true mean of that size
    assert 0.74 <= shown <= 0.86


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


def test_a_paired_difference_is_the_mean_of_the_tokens_differences() -> None:
    values_N, document_N = documents(np.random.default_rng(5), 10)
    other_N = np.random.default_rng(6).normal(size=len(values_N))
    assert paired(values_N, other_N, document_N) == bootstrap((values_N - other_N)[:, None], document_N)[0]
    above = paired(values_N + 5, values_N + other_N * 0.01, document_N)
    assert above.sign == 1
    assert paired(values_N, values_N + 5 + other_N * 0.01, document_N).sign == -1
    assert paired(other_N, -other_N, document_N).sign == 0
    assert above.detectable < 0.01


def test_unequal_documents_count_for_fewer() -> None:
    assert effective_documents(np.full(12, 7.0)) == 12
    assert effective_documents(np.array([10.0, 1, 1, 1])) == 2
    assert 8 < effective_documents(np.linspace(5, 192, 12)) < 10


def test_many_documents_are_drawn_in_blocks_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    values_N, document_N = documents(np.random.default_rng(7), 30)
    (kept,) = bootstrap(values_N[:, None], document_N)
    monkeypatch.setattr("duo_oracle.results.statistics.intervals._KEPT", 0)
    monkeypatch.setattr("duo_oracle.results.statistics.intervals._BLOCK", 3000)
    assert bootstrap(values_N[:, None], document_N) == [kept]


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
