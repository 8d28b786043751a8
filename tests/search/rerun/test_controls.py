"""log Z against brute force, and the command `controls` over a run made by the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle import results
from duo_oracle.models.families.toy import random_toy
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch, RoutingPattern
from duo_oracle.results.answers.controls import Section
from duo_oracle.search.cli import main
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from duo_oracle.search.rerun.controls import log_z_of_run
from duo_oracle.search.rerun.log_z import Space, log_z
from duo_oracle.search.rerun.opened import open_run
from tests.small_models import all_patterns, random_tokens, small_duo


@pytest.mark.parametrize("model", [random_toy(seed=2, n_letters=3, interaction=1.0), small_duo(n_letters=3)])
def test_log_z_is_what_summing_the_greatest_probabilities_gives(model: OracleModel) -> None:
    token_id_T = random_tokens(6, model.n_vocabulary, seed=4)
    budgets = parse_budgets("0-3,atmost:2,any", 3)
    space = Space((Branch.SMALL, Branch.BIG), budgets, SkipReading.FFN)
    position_N = np.array([1, 4])
    sequence = Window(0, "d", token_id_T.numpy().astype(np.int32))
    found_NQ = log_z(model, space, sequence, RoutingPattern.parse("BBB"), position_N)
    branches_PL = all_patterns(3, (Branch.SMALL, Branch.BIG))
    for row, position in enumerate(position_N):
        mask_PTL = np.full((len(branches_PL), 5, 3), Branch.BIG, dtype=np.uint8)
        mask_PTL[:, position] = branches_PL
        logits_PTV = model.forward(token_id_T[:-1].expand(len(branches_PL), -1), torch.from_numpy(mask_PTL), SkipReading.FFN)
        p_PV = torch.softmax(logits_PTV[:, position].double(), dim=1).numpy()
        for q, budget in enumerate(budgets):
            allowed_P = budget.allows(3)[(branches_PL == Branch.BIG).sum(axis=1)]
            assert found_NQ[row, q] == pytest.approx(np.log(p_PV[allowed_P].max(axis=0).sum()), abs=1e-5)
    assert found_NQ[:, [0, 3]] == pytest.approx(np.zeros((2, 2)), abs=1e-5)  # one pattern is a distribution
    assert (np.diff(found_NQ[:, [0, 4, 5]], axis=1) >= 0).all()  # more patterns, greater Z


@pytest.mark.slow
@pytest.mark.parametrize("context", ["full", pytest.param("committed", marks=pytest.mark.long)])
def test_every_control_of_a_run_is_printed(
    context: str, asks: Callable[..., SearchConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    run_search(asks(out=out, context=context, budget="0-4", keep="losses"))
    run_search(asks(out=str(tmp_path / "again"), context=context, budget="0-4", seed=5))
    options = ["--log-z", "5", "--replica", str(tmp_path / "again"), "--best-of", "4"]
    assert main(["controls", out, *options]) == 0
    text = capsys.readouterr().out
    for said in ("null gain", "best of 4", "sigma", "expected calibration error", "log Z at 5 positions", "replicas of run"):
        assert said in text
    assert main(["controls", out, *options, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"gains", "label_free", "layers", "replicas", "calibration", "log_z"}
    frame = results.load(out).paths()
    for record in found["gains"]:
        mine = frame[frame["budget"] == record["budget"]]
        assert record["gain"]["mean"] == pytest.approx(float((mine["loss_full"] - mine["loss"]).mean()), abs=1e-5)
    for record in found["log_z"]:
        if record["budget"] in ("0", "4"):
            assert record["log Z"]["mean"] == pytest.approx(0, abs=1e-5)
        charged = record["gain"]["mean"] - record["log Z"]["mean"]
        assert record["gain - log Z"]["mean"] == pytest.approx(charged, abs=1e-9)
    for record in found["replicas"]:  # another label seed: the same paths
        assert record["same path"]["mean"] == 1


def test_what_a_run_lacks_is_said_in_the_command_lines_own_options(
    asks: Callable[..., SearchConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    run_search(asks(out=out, budget="1", null_draws=0))
    assert main(["controls", out]) == 0
    text = capsys.readouterr().out
    assert "search with --null-draws 4" in text
    assert "search with --keep losses" in text
    assert "(--budget 4,8)" in text
    assert "`" not in text


def test_log_z_needs_one_context(asks: Callable[..., SearchConfig], tmp_path: Path) -> None:
    run_search(asks(context="same"))
    run = results.load(tmp_path / "run")
    with pytest.raises(ValueError, match="in the context same every pattern has a context of its own"):
        log_z_of_run(open_run(run), 3)


def test_a_section_prints_its_cells_and_its_note() -> None:
    text = str(Section("s", "title", ("a", "b"), (("x", 1.5), ("y", None)), "note"))
    assert text.splitlines() == ["title", "  a      b", "  x  1.500", "  y      -", "  note"]
