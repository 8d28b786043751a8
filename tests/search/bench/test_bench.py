"""The benchmark's obvious ways compute the same losses as the engine, and its report has the keys that are promised."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.patterns import RoutingPattern
from duo_oracle.search.bench.config import BenchConfig
from duo_oracle.search.bench.engine import run_bench
from duo_oracle.search.bench.naive import PlainDecoder
from tests.small_models import random_tokens, small_duo


def test_the_plain_decoder_scores_patterns_as_the_engine_does():
    model, token_id_T = small_duo(n_letters=4), random_tokens(7)
    branches_PL = np.random.default_rng(0).integers(1, 3, size=(9, 4)).astype(np.uint8)
    scorer = FixedScorer(model, 0, token_id_T, RoutingPattern.parse("BBBB"), SkipReading.FFN)
    for position in range(1, 6):
        decoder = PlainDecoder(model.module, token_id_T[:position])
        logits_PV = decoder.step(token_id_T[position], branches_PL)
        loss_P = F.cross_entropy(logits_PV, token_id_T[position + 1].expand(9), reduction="none")
        np.testing.assert_allclose(scorer.score(np.full(9, position), branches_PL), loss_P.numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_report_has_its_keys_and_ratios_of_what_was_timed():
    threads = torch.get_num_threads()
    try:
        result = run_bench(BenchConfig(hidden=64, vocabulary=64, seq_len=16, rounds=1, job_seconds=0))
    finally:
        torch.set_num_threads(threads)
    report = json.loads(result.to_json())
    promised = ("naive_ratio", "batched_naive_ratio", "gemm_share", "certified_head_share", "leaves_per_token", "reference_ratio")
    assert all(report[key] > 0 for key in promised)
    assert {"workers_2_speedup", "ray_overhead"} <= set(report)
    assert report["naive_ratio"] == pytest.approx(report["seconds"]["naive"] / report["seconds"]["ours"])
    assert 2 <= report["leaves_per_token"] <= 4096
    assert "naive_ratio" in str(result)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seq_len": 3}, {"hidden": 100}, {"job_seconds": -1}])
def test_a_bench_that_measures_nothing_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        BenchConfig(**wrong)
