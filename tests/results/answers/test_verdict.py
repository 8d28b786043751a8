"""The sentence of verdict: on made-up means, for every case; on many budgets, corrected for their number; Student's tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from duo_oracle.results.answers.verdict import Kind, discoveries, verdict
from duo_oracle.results.statistics.intervals import Estimate, student_quantile, student_tail

N_DOCUMENTS = 12


@dataclass(frozen=True)
class Means:
    budget: str
    gain: Estimate
    null_gain: Estimate | None
    excess: Estimate | None
    control: Estimate | None
    beyond: Estimate | None


def about(mean: float, error: float = 0.01, n_documents: int = N_DOCUMENTS) -> Estimate:
    half = 2.2 * error if n_documents > 1 else np.nan
    return Estimate(mean, mean - half, mean + half, 1000, n_documents, error)


def means(excess: float, control: float, budget: str = "any", gain: float = 0.661, error: float = 0.01, n: int = 12) -> Means:
    return Means(
        budget,
        about(gain),
        about(gain - excess),
        about(excess, error, n),
        about(control, error, n),
        about(excess - control, error, n),
    )


def test_an_excess_that_shows_where_nothing_is_chosen_is_no_evidence() -> None:
    found = verdict([means(0.061, 0.116)])
    assert found.kind is Kind.NO_EVIDENCE
    assert str(found) == (
        "No evidence of better-spent compute: gain 0.661 nats, of which 0.600 (91%) is selection bias; the remaining 0.061 is less "
        "than the 0.116 shown where nothing is chosen (difference -0.055 [-0.077, -0.033])."
    )


def test_an_excess_beyond_it_is_evidence() -> None:
    found = verdict([means(0.2, 0.05)])
    assert found.kind is Kind.EVIDENCE
    assert "the remaining 0.200 is more than the 0.050 shown where nothing is chosen, by 0.150 [0.128, 0.172]" in str(found)


@pytest.mark.parametrize(
    ("excess", "control", "words"), [(-0.1, -0.3, "is not above zero"), (0.05, 0.045, "not more than can be told")]
)
def test_what_is_not_told_apart_is_no_evidence(excess: float, control: float, words: str) -> None:
    found = verdict([means(excess, control)])
    assert found.kind is Kind.NO_EVIDENCE
    assert words in str(found)


def test_a_bias_that_is_more_than_the_gain_is_no_part_of_it() -> None:
    found = verdict([means(-0.2, 0.0, gain=0.1)])
    assert "gain 0.100 nats, where selection bias alone shows 0.300; the excess, -0.200, is not above zero" in str(found)
    assert "of which" not in str(found)


def test_what_cannot_be_known_is_said() -> None:
    assert verdict([Means("any", about(0.5), None, None, None, None)]).kind is Kind.UNKNOWN
    one = verdict([means(0.2, 0.0, n=1)])
    assert one.kind is Kind.UNKNOWN
    assert "one document" in str(one)


def test_a_single_budget_among_many_does_not_stand_by_chance() -> None:
    """2.3 standard errors are beyond zero alone, and not among twelve that show nothing."""
    alone = means(0.0235, 0.0, budget="4")
    assert verdict([alone]).kind is Kind.EVIDENCE
    nothing = [means(0.001, 0.0, budget=str(k)) for k in range(12) if k != 4]
    found = verdict([*nothing, alone])
    assert (found.kind, found.budget, found.found) == (Kind.NO_EVIDENCE, "4", ())
    assert "Of 12 budgets, corrected for their number, the excess is above the one where nothing is chosen at none." in str(found)
    strong = [means(0.1 * k, 0.0, budget=str(k)) for k in (2, 3)]
    found = verdict([*nothing, *strong])
    assert (found.kind, found.budget, found.found) == (Kind.EVIDENCE, "3", ("2", "3"))
    assert ", at budget 3, of the greatest difference. Of 13 budgets" in str(found)


def test_what_stands_at_one_budget_is_not_hidden_by_budget_any() -> None:
    """At one of many budgets compute may be better spent, and more bias and less choice hide it at budget any."""
    lines = [means(0.5, 0.5, "0"), means(0.54, 0.5, "1"), means(0.25, 0.5, "2"), means(0.46, 0.5)]
    found = verdict(lines)
    assert (found.kind, found.budget, found.found) == (Kind.EVIDENCE, "1", ("1",))
    assert str(found).startswith("Evidence of better-spent compute: gain 0.661")
    assert str(found).endswith(
        "at budget 1. Of 4 budgets, corrected for their number, the excess is above the one where nothing is chosen at 1."
    )
    assert verdict([*lines, means(0.54, 0.5, "atmost:1")][::-1]).budget in ("1", "atmost:1")
    both = verdict([means(0.9, 0.5, "1"), means(0.6, 0.5)])
    assert (both.kind, both.budget) == (Kind.EVIDENCE, "any")


def test_the_rate_of_false_discoveries_is_held() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(2000):
        p = np.concatenate([rng.uniform(size=15), rng.beta(0.05, 5, size=5)])  # fifteen true nothings, five effects
        stands = np.array(discoveries(p.tolist()))
        shares.append(stands[:15].sum() / max(1, stands.sum()))
    assert np.mean(shares) < 0.05


@pytest.mark.parametrize("freedom", [1.0, 3.0, 11.0, 40.0])
def test_the_tail_is_that_of_the_quantile(freedom: float) -> None:
    for probability in (0.6, 0.9, 0.975, 0.999):
        assert student_tail(student_quantile(probability, freedom), freedom) == pytest.approx(1 - probability, rel=2e-3)


def test_of_several_budgets_without_evidence_the_one_of_the_greatest_gain_is_said() -> None:
    """Where nothing is chosen, the excess is its own control, and often the greatest."""
    cheapest, most = means(0.083, 0.083, budget="0", gain=-0.256), means(0.046, 0.083, budget="5", gain=0.542)
    found = verdict([cheapest, most, means(0.0, 0.083, budget="12", gain=0.0)])
    assert (found.kind, found.budget) == (Kind.NO_EVIDENCE, "5")
    assert "gain 0.542 nats, of which 0.496 (92%) is selection bias" in str(found)
    assert ", at budget 5, of the greatest gain. Of 3 budgets" in str(found)
