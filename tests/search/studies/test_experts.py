"""The study of mixtures at a tiny size: every rule trained and measured, every claim on the page, and resumed without work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duo_oracle.models.moe_training.config import MoeTrainConfig
from duo_oracle.search.studies import experts
from tests.models.router_fixtures import write_text


@pytest.mark.long
def test_the_study_holds_every_claim_to_what_it_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_text(tmp_path / "text.jsonl", 120)
    base = MoeTrainConfig(
        (text,),
        "",
        tokens=8 * 4 * 16,
        layers=2,
        hidden=16,
        heads=2,
        kv_heads=1,
        ffn=32,
        vocabulary=280,
        positions=16,
        batch=4,
        checkpoint_minutes=0.0,
        holdouts=(text,),
        holdout_tokens=150,
        threads=1,
        work=str(tmp_path / "work"),
    )
    windows = experts.Windows(context=6, scored=4, per_document=1, most=4)
    plan = experts.Plan(base, tmp_path / "out", seeds=1, compared_seeds=2, windows=windows)
    found = experts.run_experts(plan)
    page = (tmp_path / "out" / "README.md").read_text()
    for claim in (
        "Gap between",
        "better than a dense",
        "Large-pool",
        "Use stays near",
        "at least 0.05",
        "Capacity rarely",
        "Fan-out",
        "Routes are stable",
        "Dynamic compute",
        "The best of all routes",
    ):
        assert f"## {claim}" in page or claim in page, claim
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"losses.svg", "fan-out.svg"}
    threshold, again = found.of("expert_threshold")
    held_out = threshold.measured["held-out"]
    assert held_out.chosen_NLE.shape == (len(held_out.causal_N), 1, 8)
    assert np.array_equal(held_out.document_N, again.measured["held-out"].document_N)
    assert not np.array_equal(held_out.causal_N, again.measured["held-out"].causal_N)
    assert np.isnan(threshold.below_S[0])
    assert ((threshold.below_S + threshold.above_S)[1:] <= 1).all()
    (choice,) = found.of("token_choice")
    assert np.array_equal(choice.measured["held-out"].causal_N, choice.measured["held-out"].protocol_N)

    def refuse(config: MoeTrainConfig) -> None:
        raise AssertionError(f"{config.out} was trained already")

    monkeypatch.setattr(experts, "train_and_measure", refuse)
    experts.run_experts(plan)
    assert (tmp_path / "out" / "README.md").read_text() == page
    with pytest.raises(ValueError, match="holds mixtures with seeds 1, not 2"):
        experts.run_experts(experts.Plan(base, tmp_path / "out", seeds=2, windows=windows))
