"""The benchmark's obvious ways compute the same losses as the engine, and its report has the keys that are promised."""

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.patterns import RoutingPattern
from duo_oracle.search.bench import engine
from duo_oracle.search.bench.config import BenchConfig
from duo_oracle.search.bench.engine import run_bench
from duo_oracle.search.bench.growth import GrowthRow, draw_growth, grown, growth_text
from duo_oracle.search.bench.naive import PlainDecoder
from duo_oracle.search.bench.result import BenchResult, beside, beside_text, read_result
from duo_oracle.search.job.config import SearchConfig
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


@pytest.mark.long
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


def test_the_searches_that_compare_workers_are_whole_ones_of_a_folder_each(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SearchConfig] = []

    def searched(config: SearchConfig) -> None:
        """Ends a unit every 4 s, or two of them with two workers, after a start that took 100 s."""
        asked.append(config)
        parts = Path(config.out, "paths")
        parts.mkdir(parents=True)
        for number in range(10):
            part = parts / f"part-{number:05d}.parquet"
            part.touch()
            at = 100 + 4 * (number // 2 if config.workers == 2 else number)
            os.utime(part, (at, at))

    monkeypatch.setattr(engine, "run_search", searched)
    result = engine.with_workers(measured(), BenchConfig(job_seconds=40, job_seq_len=9))
    assert result.workers_2_speedup == pytest.approx(20 / 8)
    assert {"local_job", "one_worker_job", "two_workers_job"} <= set(result.seconds)
    assert [(one.local, one.workers) for one in asked] == [(True, None), (False, 1), (False, 2)]
    assert {one.max_sequences for one in asked} == {10}  # 40 s at 2 tokens a second are 80 positions, 8 of each sequence
    assert len({one.out for one in asked}) == 3


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seq_len": 3}, {"hidden": 100}, {"job_seconds": -1}])
def test_a_bench_that_measures_nothing_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        BenchConfig(**wrong)


def measured(**more: object) -> BenchResult:
    rows = (GrowthRow("layers of sB", "8", 256, 2.5, 100.0), GrowthRow("layers of sB", "10", 1024, 10.0, None))
    given = dict.fromkeys((field.name for field in fields(BenchResult)), 2.0) | {
        **dict.fromkeys(("n_layers", "n_hidden", "n_vocabulary", "n_patterns", "threads"), 12),
        "workers_2_speedup": None,
        "ray_overhead": None,
        "seconds": {"ours": 0.5},
        "growth": rows,
    }
    return BenchResult(**given | more)


def test_a_result_comes_back_and_is_held_beside_another_pair_by_pair(tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    file.write_text(measured().to_json())
    assert read_result(str(file)) == measured()
    now = measured(naive_ratio=3.0, seconds={"ours": 0.25, "naive": 9.0}, growth=measured().growth[:1])
    pairs = {row["name"]: row for row in beside(now, read_result(str(file)))}
    assert pairs["naive_ratio"] == {"name": "naive_ratio", "this": 3.0, "other": 2.0, "ratio": 1.5}
    assert pairs["seconds: ours"]["ratio"] == 0.5
    assert "seconds: naive" not in pairs
    assert [name for name in pairs if name.startswith("growth")] == ["growth: layers of sB 8, CPU ms a token"]
    assert "1.50" in beside_text(list(pairs.values()), "before.json")
    with pytest.raises(InputError, match="n_hidden is 64 here and 12 there"):
        beside(measured(n_hidden=64), now)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"n_layers": 1}', "[" * 100_000, '{"seconds": 3}'])
def test_a_file_that_no_bench_wrote_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InputError, match="is not what `duo-oracle bench"):
        read_result(str(file))
    with pytest.raises(InputError, match="cannot be read"):
        read_result(str(tmp_path))


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    rows = grown(hidden=64, most_layers=8)
    layers = {row.value: row for row in rows if row.what == "layers of .sB"}
    assert {value: row.patterns for value, row in layers.items()} == {"4": 81, "6": 729, "8": 6561}
    assert all(row.ms_per_token > 0 for row in rows)
    assert layers["4"].ms_per_token < layers["8"].ms_per_token
    assert len(growth_text(rows).splitlines()) == len(rows) + 1
    assert draw_growth(rows).save(tmp_path / "growth.svg").stat().st_size > 1000
