"""Trackers: what a training and a search tell them, offline; and that they change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.models.tracker import TRACKERS, tracked
from duo_oracle.models.training.config import TrainConfig
from duo_oracle.models.training.stage1 import train
from duo_oracle.oracle.base.errors import InputError
from tests.kept_tracker import KeptTracker
from tests.models.router_fixtures import write_text

TINY = {"tokens": 600, "layers": 2, "hidden": 16, "heads": 2, "kv_heads": 1, "big": 16, "small": 4, "vocabulary": 300}
SMALL = {**TINY, "positions": 16, "batch": 2, "holdouts": (), "threads": 1}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> KeptTracker:
    found = KeptTracker()
    monkeypatch.setattr("duo_oracle.models.tracker.TRACKERS", found)
    return found


def test_a_training_tells_its_losses_and_learns_the_same(tmp_path: Path, kept: KeptTracker) -> None:
    text = write_text(tmp_path / "text.jsonl")
    for name, track in (("told", "wandb"), ("silent", None)):
        train(TrainConfig(text=(text,), out=str(tmp_path / name), track=track, **SMALL))  # type: ignore[arg-type]
    (run,) = kept.runs
    assert (run.name, run.closed, run.options["layers"]) == ("told", 1, 2)
    rows = (tmp_path / "told" / "loss.csv").read_text().splitlines()[1:]
    assert [step for step, _ in run.logged] == [int(row.split(",")[0]) for row in rows]
    assert [f"{values['loss']:.5f}" for _, values in run.logged] == [f"{float(row.split(',')[2]):.5f}" for row in rows]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("told", "silent")]
    assert weights[0] == weights[1]


def test_a_name_that_is_no_trackers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown tracker 'nowhere'; available: wandb"), tracked("nowhere", tmp_path, {}):
        pass


def test_the_same_training_is_the_same_run(tmp_path: Path, kept: KeptTracker) -> None:
    for options in ({"seed": 0}, {"seed": 0}, {"seed": 1}):
        with tracked("wandb", tmp_path / "a", options):
            pass
    first, again, other = (run.identity for run in kept.runs)
    assert first == again != other


@pytest.mark.long
def test_weights_and_biases_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    with tracked("wandb", tmp_path / "model", {"layers": 2}) as tracker:
        assert wandb.run.project == "duo-oracle"
        tracker.log({"loss": 3.5}, 10)
        tracker.log({"loss": 3.25}, 20)
        assert wandb.run.summary["loss"] == 3.5  # a step is whole when the next one comes
    (file,) = tmp_path.rglob("*.wandb")
    assert file.stat().st_size > 0
    wandb.teardown()  # its service would outlive the test, and tests of processes would find it
    assert "wandb" in TRACKERS.names()
