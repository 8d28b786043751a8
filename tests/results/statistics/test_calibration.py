"""Calibration error, and temperatures fitted on other documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from duo_oracle.results.statistics.calibration import (
    GRID,
    FullTokens,
    best_temperature,
    calibration,
    calibration_error,
    fit_on_others,
)


def drawn_tokens(truth: float, n: int = 4000, n_documents: int = 8, seed: int = 0) -> FullTokens:
    """Tokens of a model of 12 words whose text was drawn at temperature `truth` of what it says."""
    rng = np.random.default_rng(seed)
    z_NV = rng.normal(0, 2, (n, 12))

    def log_p(temperature: float) -> np.ndarray:
        tempered_NV = z_NV / temperature
        return tempered_NV - np.log(np.exp(tempered_NV).sum(axis=1, keepdims=True))

    p_NV = np.exp(log_p(truth))
    label_N = (p_NV.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    said_NV = log_p(1.0)
    return FullTokens(
        document_N=np.repeat([f"d{i}" for i in range(n_documents)], n // n_documents),
        loss_N=-said_NV[np.arange(n), label_N],
        entropy_N=-(np.exp(said_NV) * said_NV).sum(axis=1),
        confidence_N=np.exp(said_NV.max(axis=1)),
        hit_N=said_NV.argmax(axis=1) == label_N,
        loss_NG=np.stack([-log_p(t)[np.arange(n), label_N] for t in GRID], axis=1),
    )


def test_a_calibrated_model_shows_no_more_than_chance() -> None:
    found = calibration(drawn_tokens(1.0))
    assert found.overconfidence.sign == 0
    assert found.error == pytest.approx(found.error_by_chance, abs=0.01)
    assert found.temperature_in_sample == pytest.approx(1.0, abs=0.05)
    assert found.tempering_gains is not None
    assert abs(found.tempering_gains.mean) < 0.002


@pytest.mark.parametrize("truth", [0.7, 1.6])
def test_the_temperature_of_the_text_is_found(truth: float) -> None:
    found = calibration(drawn_tokens(truth))
    assert found.overconfidence.sign == (1 if truth > 1 else -1)
    assert found.error > 3 * found.error_by_chance
    assert found.temperature is not None
    low, high = found.temperature
    assert truth * 0.94 < low < high < truth * 1.06
    assert found.tempering_gains is not None
    assert found.tempering_gains.low > 0


def test_a_documents_own_tokens_do_not_move_its_temperature() -> None:
    tokens = drawn_tokens(1.3)
    before = fit_on_others(tokens)
    own_N = tokens.document_N == "d3"
    after = fit_on_others(replace(tokens, loss_NG=np.where(own_N[:, None], tokens.loss_NG[:, ::-1], tokens.loss_NG)))
    assert after["d3"] == before["d3"]
    assert all(after[name] != before[name] for name in before if name != "d3")
    assert fit_on_others(replace(tokens, document_N=np.full(len(own_N), "one"))) == {}


def test_the_least_of_a_smooth_loss_is_found_between_the_temperatures() -> None:
    for truth in (0.5, 1.04, 2.2):
        assert best_temperature((np.log(GRID) - np.log(truth)) ** 2) == pytest.approx(truth, rel=1e-6)


def test_calibration_error_by_hand() -> None:
    # two bins: 0.9 and 0.92 with one hit of two, 0.1 with none of two
    confidence_N, hit_N = np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])
    assert calibration_error(confidence_N, hit_N, bins=2) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
