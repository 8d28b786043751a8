"""`duo-oracle train-router`: from the command line, and distilled from a search run's own tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.models.router import read_router
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.results import load
from duo_oracle.search.cli import main
from duo_oracle.search.rerun.labels import read_labels
from tests.models.router_fixtures import N_LAYERS, write_model, write_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("train_router")
    write_model(folder / "model", write_text(folder / "text.jsonl"))
    return folder


def search(folder: Path, out: Path, *options: str) -> list[str]:
    common = ["--max-sequences", "12", "--local", "--null-draws", "0"]
    return ["search", str(folder / "model"), str(folder / "text.jsonl"), "--out", str(out), *common, *options]


def train(folder: Path, out: Path, *options: str) -> list[str]:
    common = ["--tokens", "512", "--batch", "4", "--calibration-tokens", "300", "--holdouts", str(folder / "text.jsonl")]
    common += ["--holdout-tokens", "100", "--budget", "1", "--threads", "1", "--work", str(folder / "work")]
    return ["train-router", str(folder / "model"), str(folder / "text.jsonl"), "--out", str(out), *common, *options]


KEPT = {
    "losses": ("--context", "full", "--budget", "any", "--keep", "losses"),
    "trials": ("--strategy", "random_search", "--set", "n=5", "--context", "router:random:1", "--keep", "trials"),
    "committed": ("--budget", "1", "--keep", "losses"),
}


@pytest.mark.parametrize("kept", KEPT)
def test_a_run_s_tables_come_as_arrays_with_the_routing_of_the_earlier_tokens(kept, folder, tmp_path):
    assert main(search(folder, tmp_path / "run", *KEPT[kept])) == 0
    run = load(tmp_path / "run")
    labels = list(read_labels((str(run.path),), str(folder / "model")))
    rows = run.trials() if kept == "trials" else run.losses()
    assert sum(len(one.loss_R) for one in labels) == len(rows)
    assert sum(len(one.token_ids) - 1 for one in labels) == run.n_tokens
    mine = rows[rows["sequence"] == 3]
    found = sorted(zip(labels[3].position_R.tolist(), to_strings(labels[3].branches_RL), labels[3].loss_R.tolist(), strict=True))
    assert found == sorted(zip(mine["position"], mine["pattern"].astype(str), mine["loss"].astype(float), strict=True))
    n_big_T = (labels[3].context_TL == Branch.BIG).sum(axis=1)
    assert labels[3].context_TL.shape == (len(labels[3].token_ids) - 1, N_LAYERS)
    assert set(n_big_T) == ({N_LAYERS} if kept == "losses" else {1})
    if kept == "committed":
        paths = run.paths()
        wanted = paths[paths["sequence"] == 3].sort_values("position")["pattern"].tolist()
        assert to_strings(labels[3].context_TL) == wanted


def test_distilled_is_trained_from_a_run_on_the_command_line(folder, tmp_path, capsys):
    assert main(search(folder, tmp_path / "run", *KEPT["trials"])) == 0
    assert main(train(folder, tmp_path / "router", "--router", "distilled", "--run", str(tmp_path / "run"))) == 0
    record = json.loads((tmp_path / "router" / "router.json").read_text())
    assert record["training"]["patterns"] == 5 * load(tmp_path / "run").n_tokens
    assert record["calibration"]["budget_after"] == pytest.approx(1.0, rel=0.02)
    assert "B's per token" in capsys.readouterr().out
    assert np.isfinite(read_router(tmp_path / "router").maps.weight_LKD.numpy()).all()


def test_the_command_trains_and_a_setting_reaches_the_router(folder, tmp_path):
    assert main(train(folder, tmp_path / "router", "--router", "expert_threshold", "--set", "cutoff=pooled")) == 0
    record = json.loads((tmp_path / "router" / "router.json").read_text())
    assert record["settings"]["cutoff"] == "pooled"
    assert record["calibration"]["how"] == "none"  # its cutoffs are as trained


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            ("--context", "same", "--keep", "losses"),
            "the earlier tokens of a position must have had one routing; it has context same",
        ),
        (("--budget", "1,2", "--keep", "losses"), "it has context committed, budgets 1, 2"),
        (("--context", "full"), "kept no losses of patterns; search with --keep trials or --keep losses"),
    ],
)
def test_runs_that_cannot_teach_are_refused(run, message, folder, tmp_path, capsys):
    assert main(search(folder, tmp_path / "run", *run)) == 0
    capsys.readouterr()
    assert main(train(folder, tmp_path / "router", "--router", "distilled", "--run", str(tmp_path / "run"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_run_of_another_model_is_refused(folder, tmp_path, capsys):
    write_model(tmp_path / "model", str(folder / "text.jsonl"), seed=1)
    assert main(search(folder, tmp_path / "run", *KEPT["losses"])) == 0
    capsys.readouterr()
    arguments = train(folder, tmp_path / "router", "--router", "distilled", "--run", str(tmp_path / "run"))
    arguments[1] = str(tmp_path / "model")
    assert main(arguments) == 2
    assert "was searched with another model than" in capsys.readouterr().err
