"""Intervals over seeds and documents cover what they should; planted effects get the verdict that they deserve."""

from __future__ import annotations

import numpy as np
import pytest

from duo_oracle.results.experts import claims
from duo_oracle.results.experts.material import Measured, Trained, Trainings
from duo_oracle.results.experts.seeds import Values, difference, over_seeds

N_DOCUMENTS, LENGTH, N_EXPERTS = 30, 16, 4


def test_intervals_over_seeds_and_documents_cover_the_truth() -> None:
    """A seed effect, a document effect and token noise: 400 made-up studies of three seeds and twelve documents."""
    generator = np.random.default_rng(0)
    covered = 0
    document_N = np.repeat(np.arange(12), 20)
    for _ in range(400):
        text_D = 0.05 * generator.standard_normal(12)
        seeds = [
            Values(document_N, 0.3 + 0.05 * generator.standard_normal() + text_D[document_N] + 0.3 * generator.standard_normal(240))
            for _ in range(3)
        ]
        found = over_seeds(seeds)
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.995


def test_one_seed_has_no_interval_and_other_documents_are_refused() -> None:
    one = Values(np.array(["a", "a", "b"]), np.array([1.0, 2.0, 3.0]))
    found = over_seeds([one])
    assert found.mean == 2.0
    assert np.isnan(found.low)
    assert str(found) == "+2.000"
    with pytest.raises(ValueError, match="the same documents"):
        over_seeds([one, Values(np.array(["a", "a", "c"]), one.value_N)])
    with pytest.raises(ValueError, match="there are none"):
        over_seeds([])
    assert difference([one, one], [one, one]).high == 0.0


def trained(
    rule: str, seed: int, loss: float, gap: float = 0.0, use: float = 1.0, early: float = 0.0, stable: float = 0.5
) -> Trained:
    """A mixture of one layer with four experts, at a rate of a quarter, with what is asked planted in it."""
    text, own = np.random.default_rng(7), np.random.default_rng((seed, len(rule)))
    document_N = np.repeat(np.arange(N_DOCUMENTS), LENGTH)
    position_N = np.tile(np.arange(LENGTH), N_DOCUMENTS)
    n = len(document_N)
    causal_N = loss + text.standard_normal(n) + 0.001 * own.standard_normal() + 0.05 * own.standard_normal(n)
    share_N = 0.25 * use + early * (position_N < 2)
    chosen_NE = own.random((n, N_EXPERTS)) < share_N[:, None]
    same_NE = own.random((n, N_EXPERTS)) < stable
    early_NE = np.where(same_NE, chosen_NE, own.random((n, N_EXPERTS)) < share_N[:, None])
    measured = Measured(document_N, position_N, causal_N, causal_N - gap, chosen_NE[:, None], early_NE[:, None])
    outside_S = np.full(40, 0.05)
    outside_S[0] = np.nan
    return Trained(rule, seed, 0.25, {"text": measured}, outside_S * (4 if rule == claims.COLD else 1), 0 * outside_S)


def test_planted_effects_are_found_and_planted_nothings_are_not() -> None:
    made = []
    for seed in range(4):
        made += [
            trained(claims.ET, seed, 3.0, early=0.3, stable=0.8),
            trained(claims.EC, seed, 3.0, gap=0.01),
            trained(claims.EC_SMALL, seed, 3.06, gap=0.04),
            trained(claims.TC, seed, 3.02, stable=0.3),
            trained(claims.DENSE, seed, 3.2),
            trained(claims.COLD, seed, 3.0),
        ]
    found = {one.name: one for one in claims.claims(Trainings(made))}
    assert len(found) == 8
    verdicts = {name: [one.verdict for one in claim.statements] for name, claim in found.items()}
    assert verdicts["Gap between training and evaluation"] == ["found", "found"]
    assert verdicts["A mixture is better than a dense model of equal active size"] == ["found", "found"]
    assert verdicts["Large-pool expert choice is level with the threshold, and both below small-pool expert choice"] == [
        "found",
        "found",
    ]
    # 0.02 is above zero, and it is not 0.05
    (choice,) = found["The threshold is at least 0.05 nats below token choice"].statements
    assert choice.effect.low > 0
    assert choice.verdict == "not found"
    fan_out = {one.what: one for one in found["Fan-out"].statements}
    assert fan_out["text: early tokens more than later ones"].verdict == "found"
    assert fan_out["text: early tokens more than later ones"].effect.mean == pytest.approx(4 * 0.3, abs=0.15)
    assert fan_out["text: tokens of middling loss more than others"].verdict != "found"
    assert set(verdicts["Routes are stable over checkpoints, the threshold's more than token choice's"]) == {"found"}
    assert found["Capacity rarely binds, and the warm-up prevents starvation"].statements[-1].effect.mean == pytest.approx(0.15)
    assert found["Fan-out"].verdict != "found"


def test_use_away_from_the_target_is_not_near_it() -> None:
    near = [trained(claims.ET, seed, 3.0) for seed in range(3)] + [trained(claims.TC, seed, 3.0) for seed in range(3)]
    far = [trained(claims.ET, seed, 3.0, use=1.4) for seed in range(3)] + near[3:]
    name = "Use stays near the target with the cutoffs as trained"
    verdicts = [next(one for one in claims.claims(Trainings(made)) if one.name == name).verdict for made in (near, far)]
    assert verdicts == ["found", "not found"]


def test_what_was_not_trained_is_not_claimed() -> None:
    assert [one.name for one in claims.claims(Trainings([trained(claims.ET, 0, 3.0)]))] == ["Fan-out"]
    with pytest.raises(ValueError, match="no mixture was trained by dense"):
        Trainings([trained(claims.ET, 0, 3.0)]).of("dense")
