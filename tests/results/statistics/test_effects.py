"""One rule of verdicts, and effects that are paired by document."""

from __future__ import annotations

import numpy as np
import pytest

from duo_oracle.results.statistics.effects import Effect, Verdict, effect, estimate, mean_over, ratio, weakest
from duo_oracle.results.statistics.intervals import Estimate, bootstrap


def between(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 100, 10)


@pytest.mark.parametrize(
    ("raw", "beyond", "verdict"),
    [
        (between(0.1, 0.3), between(0.1, 0.2), Verdict.FOUND),
        (between(0.1, 0.3), between(-0.1, 0.2), Verdict.BIAS),
        (between(0.1, 0.3), between(-0.3, -0.1), Verdict.BIAS),
        (between(-0.1, 0.3), between(0.1, 0.2), Verdict.NOT_FOUND),
        (between(-0.3, -0.1), between(0.1, 0.2), Verdict.NOT_FOUND),
        (Estimate(1.0, float("nan"), float("nan"), 100, 1), between(0.1, 0.2), Verdict.NOT_FOUND),
    ],
)
def test_the_rule(raw: Estimate, beyond: Estimate, verdict: Verdict) -> None:
    assert Effect("it", "nats", raw, beyond).verdict is verdict


def test_the_weakest_statement_decides() -> None:
    found = Effect("a", "nats", between(0.5, 0.6), between(0.5, 0.6))
    scarcely = Effect("b", "nats", between(0.5, 0.6), between(0.1, 0.6))
    luck = Effect("c", "nats", between(0.5, 0.6), between(-0.1, 0.6))
    missing = Effect("d", "nats", between(-0.5, 0.6), between(0.5, 0.6))
    assert weakest([found, scarcely]) is scarcely
    assert weakest([found, luck, scarcely]) is luck
    assert weakest([luck, missing, found]) is missing


def noisy(n_documents: int = 16, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    document_N = np.repeat([f"document {n:02}" for n in range(n_documents)], 40)
    own_N = np.repeat(rng.normal(0, 2, n_documents), 40)
    return document_N, own_N + rng.normal(shift, 0.2, len(document_N))


def test_a_mean_is_the_bootstraps_mean_with_its_interval() -> None:
    document_N, value_N = noisy()
    (known,) = bootstrap(value_N[:, None], document_N)
    found = estimate((1, ratio(document_N, value_N)))
    assert (found.mean, found.low, found.high) == pytest.approx((known.mean, known.low, known.high))


def test_what_real_and_control_share_by_document_cancels() -> None:
    document_N, value_N = noisy()
    shifted_N = value_N + 0.3
    one = effect("it", "nats", [(1, ratio(document_N, shifted_N))], [(1, ratio(document_N[::-1], value_N[::-1]))])
    assert one.beyond.low == pytest.approx(0.3)
    assert one.raw.low < 0 < one.raw.high
    same = effect("it", "nats", [(1, ratio(document_N, value_N + 9))], [(1, ratio(document_N, value_N + 9))])
    assert same.verdict is Verdict.BIAS


def test_a_group_missing_from_some_documents_is_a_mean_over_its_tokens() -> None:
    document_N, value_N = noisy()
    group_N = (document_N < "document 05") & (np.arange(len(document_N)) % 3 == 0)
    found = estimate((1, mean_over(document_N, value_N, group_N)))
    assert found.mean == pytest.approx(value_N[group_N].mean())


def test_what_is_said_of_a_group_that_is_not_there_is_not_found() -> None:
    document_N, value_N = noisy(shift=9.0)
    nobody = mean_over(document_N, value_N, np.zeros(len(document_N), dtype=bool))
    assert np.isnan(estimate((1, nobody)).mean)
    assert effect("it", "nats", [(1, nobody)], []).verdict is Verdict.NOT_FOUND
    assert effect("it", "nats", [(1, ratio(document_N, value_N))], [(1, nobody)]).verdict is Verdict.BIAS
