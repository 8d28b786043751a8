"""Thirty layers, 2^30 patterns: strategies end in bounded time and memory, claim no proof, and go on when killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLlama, DuoLlamaConfig
from duo_oracle.results.statistics.regret import regret_line
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.strategies import DEFAULT_STRATEGIES, compare, parse_candidate
from tests.search.conftest import assert_same_tables, tables_of
from tests.search.job.test_kill import ROOT, wait_for_units

pytestmark = pytest.mark.slow
N_LAYERS = 30
EVALUATIONS = {"greedy": 346, "beam": 1400, "layerwise": 4000, "additive": 47, "mcts": 100}
"""At most so many at 15 B's: 1 + 30 + 29 + ... + 16 for greedy, four times that for a beam of 4, 1 + 30 + 16 for additive;
some sweeps of 225 exchanges for layerwise, which has no bound but the space."""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DuoLlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        small_intermediate_size=8,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        head_dim=16,
    )
    generator = torch.Generator().manual_seed(0)
    module = DuoLlama(config)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    directory = tmp_path_factory.mktemp("models") / "deep"
    write_checkpoint(directory, config.to_dict(), module.state_dict(), None, torch.float32)
    return directory


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "deep.jsonl"
    generator = np.random.default_rng(0)
    rows = [{"document": f"book {n}", "tokens": generator.integers(0, 64, 13).tolist()} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "beam" else pytest.mark.long) for name in DEFAULT_STRATEGIES]
)
def test_a_deep_search_is_bounded_and_not_certified(deep: Path, sequences: Path, tmp_path: Path, name: str) -> None:
    options = [
        "--strategy",
        name,
        "--budget",
        "15",
        "--context",
        "full",
        "--local",
        "--max-sequences",
        "2",
        "--out",
        str(tmp_path / "run"),
    ]
    # VmHWM, not ru_maxrss: the latter starts at the size of the process that forked, here a whole pytest
    code = "import re, sys, pathlib; from duo_oracle.search.cli import main; status = main(sys.argv[1:])\n"
    code += "print(re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text()).group(1)); sys.exit(status)"
    command = [sys.executable, "-c", code, "search", str(deep), str(sequences), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout.split()[-1]) < 700 * 1024, "KiB, of which torch and its friends take about 400 MiB"
    paths = results.load(tmp_path / "run").paths()
    assert not paths["certified"].any()
    assert (paths["n_big"] == 15).all()
    assert paths["evaluations"].max() <= EVALUATIONS[name]


@pytest.mark.long
def test_a_deep_beam_killed_on_ray_ends_like_one_that_was_not(deep: Path, sequences: Path, tmp_path: Path) -> None:
    options = {"strategy": "beam", "budget": "6", "unit_sequences": 1}
    out = tmp_path / "killed"
    words = ["--strategy", "beam", "--budget", "6", "--unit-sequences", "1", "--workers", "2", "--out", str(out)]
    command = [sys.executable, "-m", "duo_oracle", "search", str(deep), str(sequences), *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        wait_for_units(process, out, 1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert results.load(out).manifest.state == "running"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    run_search(SearchConfig(model=str(deep), data=(str(sequences),), out=str(whole), local=True, **options))  # type: ignore[arg-type]
    assert_same_tables(tables_of(out), tables_of(whole))


@pytest.mark.long
def test_strategies_are_read_against_the_best_that_any_of_them_found(deep: Path, sequences: Path, tmp_path: Path) -> None:
    run_search(
        SearchConfig(
            model=str(deep),
            data=(str(sequences),),
            out=str(tmp_path / "run"),
            strategy="greedy",
            budget="15",
            context="full",
            local=True,
            max_sequences=2,
        )
    )
    run = results.load(tmp_path / "run")
    found = compare(open_run(run), [parse_candidate(name) for name in DEFAULT_STRATEGIES], ("15",), None, seed=0)
    assert not found.certified
    lines = {outcome.strategy: regret_line(outcome) for outcome in found.outcomes}
    assert all(line.regret.mean >= 0 for line in lines.values())
    assert lines["beam"].regret.mean <= lines["greedy"].regret.mean
    assert lines["beam"].exact.mean >= 0.5
