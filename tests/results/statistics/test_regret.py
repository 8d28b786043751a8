"""Regret and its baselines: against brute force, and where the answer is known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.results.statistics.regret import Outcomes, as_table, as_text, regret_curve, regret_line
from duo_oracle.results.statistics.selection_bias import best_of_n


def outcomes(**values: object) -> Outcomes:
    """Six tokens of three documents; the strategy is 0.1 behind at half of them."""
    reference_N = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    behind_N = np.array([0.1, 0.0, 0.1, 0.0, 0.1, 0.0])
    base = {
        "strategy": "greedy",
        "budget": "4",
        "n_patterns": 495,
        "seconds": 2.0,
        "document_N": np.array(["a", "a", "b", "b", "c", "c"]),
        "loss_N": reference_N + behind_N,
        "evaluations_N": np.full(6, 3),
        "reference_N": reference_N,
        "mean_N": reference_N + 0.5,
        "random_N": reference_N + 0.2,
        "best_NE": np.stack([np.full(6, np.nan), reference_N + 0.3, reference_N + behind_N], axis=1),
    }
    return Outcomes(**{**base, **values})


def test_best_of_n_is_the_mean_over_all_draws() -> None:
    loss_NP = np.random.default_rng(0).normal(size=(4, 7))
    for n in range(1, 8):
        brute_N = np.mean([loss_NP[:, list(drawn)].min(axis=1) for drawn in combinations(range(7), n)], axis=0)
        assert best_of_n(loss_NP, np.full(4, n)) == pytest.approx(brute_N)


def test_best_of_n_takes_a_number_per_token() -> None:
    loss_NP = np.random.default_rng(1).normal(size=(5, 495))
    n_N = np.array([1, 43, 43, 100, 495])
    expected = [best_of_n(loss_NP[[row]], n_N[[row]])[0] for row in range(5)]
    assert best_of_n(loss_NP, n_N) == pytest.approx(expected)
    assert best_of_n(loss_NP, n_N)[0] == pytest.approx(loss_NP[0].mean())
    assert best_of_n(loss_NP, n_N)[4] == pytest.approx(loss_NP[4].min())


def test_best_of_n_from_a_sample_is_right_on_average() -> None:
    generator = np.random.default_rng(2)
    loss_1P = generator.normal(size=(1, 40))
    samples_NP = np.stack([generator.permutation(loss_1P[0])[:12] for _ in range(4000)])
    assert best_of_n(samples_NP, np.full(4000, 5)).mean() == pytest.approx(best_of_n(loss_1P, np.array([5]))[0], abs=0.02)


@pytest.mark.parametrize("n", [0, 8])
def test_no_more_patterns_are_drawn_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 7"):
        best_of_n(np.zeros((1, 7)), np.array([n]))


def test_a_line_says_regret_share_of_gain_and_exact_paths() -> None:
    line = regret_line(outcomes())
    assert line.regret.mean == pytest.approx(0.05)
    assert line.share.mean == pytest.approx(0.9)
    assert line.exact.mean == pytest.approx(0.5)
    assert line.random_share.mean == pytest.approx(0.6)
    assert line.ahead.mean == pytest.approx(0.15)
    assert line.tokens_per_second == pytest.approx(3.0)
    assert line.share.low <= line.share.mean <= line.share.high


def test_the_share_is_a_ratio_of_sums_and_1_where_nothing_can_be_gained() -> None:
    found = outcomes()
    assert regret_line(outcomes(loss_N=found.mean_N)).share.mean == pytest.approx(0.0)
    assert regret_line(outcomes(loss_N=found.reference_N)).share.mean == pytest.approx(1.0)
    assert regret_line(outcomes(mean_N=found.reference_N, loss_N=found.reference_N)).share.mean == 1.0


def test_losses_apart_by_rounding_alone_are_the_same_path() -> None:
    found = outcomes()
    assert regret_line(outcomes(loss_N=found.reference_N * (1 + 1e-7))).exact.mean == 1.0


def test_a_curve_begins_where_every_token_has_a_pattern_in_the_budget() -> None:
    evaluations, regret = regret_curve(outcomes())
    assert evaluations.tolist() == [2, 3]
    assert regret == pytest.approx([0.3, 0.05])


def test_the_table_and_the_text_hold_every_line() -> None:
    lines = [regret_line(outcomes()), regret_line(outcomes(strategy="beam", document_N=np.zeros(6)))]
    table = as_table(lines, "mine").to_pylist()
    assert [row["strategy"] for row in table] == ["greedy", "beam"]
    assert table[0]["regret_low"] <= table[0]["regret"] <= table[0]["regret_high"]
    text = as_text(lines).splitlines()
    assert len(text) == 3
    assert "90.0% [" in text[1]
    assert "[" not in text[2]  # one document, so there is no interval


def test_a_plot_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    from duo_oracle.results.answers.regret_plot import plot_regret

    found = [outcomes(), outcomes(strategy="beam"), outcomes(budget="any")]
    for name in ("one.svg", "two.svg"):
        plot_regret(found, tmp_path / name, "six tokens", {"4": 10.0})
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.pdf"):
        plot_regret(found, tmp_path / "plot.gif", "", {})
