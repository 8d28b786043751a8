"""Weights under which some patterns leave the range of float32, and others do not: refused in a line, never passed over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.models.families import duo_llama
from duo_oracle.search.cli import main

SCALE = 10**37.8  # with it the small FFN of the middle layer overflows for tokens 11 and 20, in some patterns alone
TEXTS = ([11, 19, 25, 20, 34], [0, 33, 20, 11, 6], [11, 22, 28, 25, 20], [11, 20, 14, 21, 34])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("overflow")
    config, tensors = duo_llama.random_checkpoint(1)
    name = "model.layers.1.small_mlp.down_proj.weight"
    tensors = {**tensors, name: (tensors[name].double() * SCALE).float()}
    write_checkpoint(folder / "model", config, tensors, None, torch.float32)
    rows = [{"document": str(number), "tokens": tokens} for number, tokens in enumerate(TEXTS)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["search", str(folder / "model"), str(folder / "text.jsonl"), "--local", "--context", "full"]


@pytest.mark.parametrize("keep", ["none", "losses"])
def test_an_exact_search_refuses_a_pattern_whose_loss_is_no_number(
    asked: list[str], keep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A NaN is below no threshold: it would end the proof of its group, and be called certified."""
    assert main([*asked, "--budget", "any,0-3", "--keep", keep, "--out", str(tmp_path / "run")]) == 1
    failed, rest = capsys.readouterr().err.splitlines()
    assert "a loss is a finite number; under some pattern this model's weights lead to inf or NaN" in failed
    assert "the same command tries them again" in rest


@pytest.mark.parametrize("strategy", ["beam", "random_search"])
def test_to_a_strategy_it_is_a_trial_that_failed(asked: list[str], strategy: str, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    how = ["--strategy", strategy, "--keep", "trials", "--out", run]
    assert main([*asked, "--budget", "any", *how]) == 0
    trials = results.load(run).dataset("trials").to_table().to_pandas()
    failed = trials[~np.isfinite(trials["loss"])]
    assert 0 < len(failed) < len(trials)
    assert set(failed["state"]) == {"failed"}


@pytest.mark.parametrize("command", [["compare", "--router", "fixed:BsB"], ["compare", "--router", "random:1.4"], ["ladder"]])
def test_so_does_what_asks_a_run_for_other_patterns(
    asked: list[str], command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All-small and all-big are finite here, and the search asked for no other."""
    run = str(tmp_path / "run")
    assert main([*asked, "--budget", "0,3", "--out", run]) == 0
    capsys.readouterr()
    assert main([command[0], run, *command[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a loss is a finite number; under some pattern this model's weights lead to inf or NaN")
