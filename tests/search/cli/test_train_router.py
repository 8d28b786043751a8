"""`duo-oracle train-router`: from the command line, and distilled from a search run's own tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from duo_oracle.models.router import read_router
from duo_oracle.models.router_training.labels import Teacher
from duo_oracle.models.routers import distilled
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import losses_of
from duo_oracle.oracle.patterns import Branch, to_strings
from duo_oracle.results import load
from duo_oracle.search.cli import main
from duo_oracle.search.rerun.labels import read_labels
from duo_oracle.search.rerun.opened import open_run
from duo_oracle.search.rerun.references import with_reference
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


REFERENCE = ("--context", "full", "--budget", "any", "--reference", "self", "--seq-len", "8")


@pytest.mark.parametrize("target", ["label", "reference"])
def test_a_teacher_finds_losses_anew_in_the_context_that_a_router_makes(target, folder, tmp_path):
    assert main(search(folder, tmp_path / "run", *REFERENCE)) == 0
    teacher = read_labels((str(tmp_path / "run"),), str(folder / "model"))
    assert isinstance(teacher, Teacher)
    opened = open_run(load(tmp_path / "run"))
    model, windows = opened.model, {window.index: window for window in with_reference(opened, opened.sequences)}
    router = read_router("fixed:sBs")
    for asked in (None, router):
        for one in teacher.found(target, 3, 0, asked):
            window = next(w for w in windows.values() if np.array_equal(w.token_ids, one.token_ids))
            assert (one.context_TL == (2 if asked is None else np.array([1, 2, 1]))).all()
            assert len(one.loss_R) == 3 * window.n_positions
            place = int(one.position_R[-1])
            rows = np.flatnonzero(one.position_R == place)
            for row in rows:  # by a plain pass in which this token alone takes the pattern
                mask_TL = one.context_TL.copy()
                mask_TL[place] = one.branches_RL[row]
                ids_1T = torch.from_numpy(one.token_ids[:-1].astype(np.int64))[None]
                logits_V = model.forward(ids_1T, torch.from_numpy(mask_TL[None]).long(), SkipReading.FFN)[0, place].double()
                if target == "label":
                    wanted = losses_of(logits_V, torch.tensor(int(one.token_ids[place + 1])))
                else:
                    direction_D = torch.from_numpy(window.reference.direction_ND[place - window.n_warm]).double()
                    h_D = torch.linalg.lstsq(model.unembedding_VD.double(), logits_V[:, None]).solution[:, 0]
                    wanted = logits_V.logsumexp(0) - direction_D @ h_D
                assert one.loss_R[row] == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("settings", [("target=reference",), ("target=reference", "on_policy=yes"), ("on_policy=yes",)])
def test_soft_and_on_policy_labels_train_a_router(settings, folder, tmp_path):
    assert main(search(folder, tmp_path / "run", *REFERENCE)) == 0
    given = [word for setting in (*settings, "sample=4") for word in ("--set", setting)]
    assert main(train(folder, tmp_path / "router", "--router", "distilled", "--run", str(tmp_path / "run"), *given)) == 0
    record = json.loads((tmp_path / "router" / "router.json").read_text())
    assert record["training"]["patterns"] == 4 * load(tmp_path / "run").n_tokens
    assert record["settings"]["target"] == ("reference" if "target=reference" in settings else "label")


@pytest.mark.parametrize(
    ("run", "settings", "message"),
    [
        (("--context", "full"), "target=reference", "was searched without a reference"),
        (("--context", "committed"), "on_policy=yes", "losses are found where the earlier tokens have one routing"),
    ],
)
def test_runs_that_cannot_be_asked_anew_are_refused(run, settings, message, folder, tmp_path, capsys):
    assert main(search(folder, tmp_path / "run", *run)) == 0
    capsys.readouterr()
    given = ["--router", "distilled", "--run", str(tmp_path / "run"), "--set", settings]
    assert main(train(folder, tmp_path / "router", *given)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_losses_in_hand_cannot_be_found_anew() -> None:
    with pytest.raises(InputError, match="name search runs with `run`"):
        distilled.lessons([], distilled.Settings(target="reference"), 0)
