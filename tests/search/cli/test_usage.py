"""`usage`: what a router's directory says of its training, and a context, routes and a comparison of a trained router."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from duo_oracle import results
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.linear_router import LinearMaps, LinearRouter, write_linear
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search

N_STEPS, N_LAYERS = 8, 3


@pytest.fixture
def router(duo: Path, tmp_path: Path) -> Path:
    """A linear router with random weights that says it was trained for eight steps."""
    generator = torch.Generator().manual_seed(0)
    maps = LinearMaps(torch.randn(N_LAYERS, 2, 16, generator=generator), torch.zeros(N_LAYERS, 2), torch.tensor([0.0, 0.5, -0.5]))
    found = LinearRouter(
        "expert_threshold", maps, (Branch.SMALL, Branch.BIG), read_checkpoint(str(duo)).fingerprint, SkipReading.FFN, 1.5
    )
    usage_SL = torch.full((N_STEPS, N_LAYERS), 0.5)
    usage_SL[:2] = torch.tensor([0.0, 0.5, 1.0])
    usage_SL[-2:] = torch.tensor([0.2, 0.5, 0.8])
    record = {"usage": usage_SL, "cutoff": torch.zeros(N_STEPS, N_LAYERS), "batch_cutoff": torch.zeros(N_STEPS, N_LAYERS)}
    record["batch_cutoff"][-2:] = torch.tensor([[1.0, 0.0, torch.nan], [3.0, 0.0, 0.0]])
    directory = tmp_path / "router"
    facts = {"settings": {"beta": 0.9}, "seed": 0}
    write_linear(directory, found, facts, {f"training/{name}": values for name, values in record.items()})
    return directory


def test_use_and_cutoffs_are_those_of_the_last_steps(router: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "usage.svg"
    assert main(["usage", str(router), "--format", "json", "--plot", str(plot)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["big"] for row in rows] == pytest.approx([0.2, 0.5, 0.8])
    assert [row["even"] for row in rows] == [0.5] * 3
    assert [row["starved_steps"] for row in rows] == [0.25, 0.0, 0.0]
    assert [row["saturated_steps"] for row in rows] == [0.0, 0.0, 0.25]
    assert [row["deviation"] for row in rows] == [2.0, 0.0, None]
    assert rows[0]["deviation_spread"] == 1.0
    assert {row["passed"] for row in rows} == {row["below_capacity"] for row in rows} == {None}  # a router of before has no counts
    first = plot.read_bytes()
    assert main(["usage", str(router), "--plot", str(plot)]) == 0
    assert plot.read_bytes() == first


def test_starved_is_what_was_over_the_cutoff_and_not_what_the_clamp_made_of_it(
    router: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(router / "router.safetensors")
    passed_SL = torch.full((N_STEPS, N_LAYERS), 0.5)
    passed_SL[0] = torch.nan
    passed_SL[1:3, 1], passed_SL[-2:, 2] = 0.0, 1.0
    held_SL = torch.zeros(N_STEPS, N_LAYERS)
    held_SL[0] = torch.nan
    held_SL[1:3, 1], held_SL[-1, 2] = -1.0, 1.0
    save_file({**tensors, "training/passed": passed_SL, "training/held": held_SL}, router / "router.safetensors")
    assert main(["usage", str(router), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["big"] for row in rows] == pytest.approx([0.2, 0.5, 0.8])
    assert [row["passed"] for row in rows] == [0.5, 0.5, 1.0]
    assert [row["starved_steps"] for row in rows] == [1 / 8, 2 / 8, 0.0]  # the first step has no cutoff yet: its use counts
    assert [row["saturated_steps"] for row in rows] == [0.0, 0.0, 3 / 8]
    assert [row["below_capacity"] for row in rows] == pytest.approx([0.0, 2 / 7, 0.0])
    assert [row["above_capacity"] for row in rows] == pytest.approx([0.0, 0.0, 1 / 7])


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["random:2"], "has no record of its training"), (["nowhere"], "there is no 'nowhere'"), ([], "is required")],
)
def test_a_router_without_training_is_refused(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", *argv]) == 2
    assert said in capsys.readouterr().err


def test_a_trained_router_is_a_context_a_file_and_a_line(
    router: Path, asks_duo: Callable[..., SearchConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = asks_duo(context=f"router:{router}", budget="0-3", keep="losses")
    run_search(config)
    assert main(["verify", config.out, "--all"]) == 0
    file = tmp_path / "routes.parquet"
    assert main(["route", config.model, str(router), *config.data, "--logits", "--out", str(file)]) == 0
    table = pq.read_table(file)
    patterns = results.load(config.out).tokens().sort_values(["sequence", "position"])["context_pattern"].tolist()
    assert table["pattern"].to_pylist() == patterns
    logits_NLK = np.array(table["logits"].to_pylist())
    letters = np.array(list("sB"))[logits_NLK.argmax(axis=2)]
    assert ["".join(row) for row in letters] == patterns
    capsys.readouterr()
    argv = ["compare", config.out, "--router", str(router), "--routes", f"file={file}", "--format", "json"]
    assert main(argv) == 0
    left, right = (row for row in json.loads(capsys.readouterr().out) if row["kind"] == "router")
    assert {key for key in left if left[key] != right[key]} == {"name"}
    # the earlier tokens took the router's own choices, so its loss in this context is that of its own pass
    assert left["loss"] == pytest.approx(left["real_loss"], abs=1e-5)
