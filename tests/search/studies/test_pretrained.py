"""The study of a pretrained model, whole and small: its page, that it goes on, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from duo_oracle.models.checkpoint import write_checkpoint
from duo_oracle.search.cli import main
from tests.models.router_fixtures import write_model, write_text


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The arguments of a small study, and its directory."""
    folder = tmp_path_factory.mktemp("study")
    text = write_text(folder / "train.jsonl")
    write_model(folder / "model", text, n_letters=4)
    for name in ("prose", "code"):
        write_text(folder / f"{name}.jsonl", n_documents=4, seed=len(name))
    data = [argument for name in ("prose", "code") for argument in ("--data", str(folder / f"{name}.jsonl"))]
    sizes = "--seq-len 6 --min-context 4 --max-documents 3 --beam-tokens 5 --beam-documents 2 --router-tokens 600 --local".split()
    sizes += "--context full --context committed".split()
    sizes += "--reach-tokens 5 --reach-offset 7 --reach-context 2".split()
    arguments = [
        "study",
        str(folder / "model"),
        "--route-layers",
        "1-3",
        *data,
        "--text",
        text,
        *sizes,
        "--out",
        str(folder / "out"),
    ]
    assert main(arguments) == 0
    return arguments, folder / "out"


@pytest.mark.slow
def test_every_setting_has_its_verdict_tables_and_picture(study: tuple[list[str], Path]) -> None:
    _, out = study
    verdicts = json.loads((out / "verdicts.json").read_text())
    assert list(verdicts) == [
        "skip-full",
        "skip-committed",
        "small-full",
        "small-committed",
        "reach-skip",
        "reach-small",
        "beam",
        "routers",
    ]
    page = (out / "README.md").read_text()
    for name, found in verdicts.items():
        assert found["verdict"] in ("found", "not found", "not distinguishable from selection bias")
        assert (out / "figures" / f"{name}.svg").read_text().startswith("<?xml")
        assert f"figures/{name}.svg" in page
    for word in ("null gain", "excess", "leaves evaluated a token", "tokens/s, one thread", "naive way", "all-small", "layers 1-3"):
        assert word in page, word
    html = (out / "index.html").read_text()
    assert "<svg" in html
    assert "](#" not in html  # every item is linked
    assert "http" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


@pytest.mark.slow
def test_the_numbers_of_the_page_are_those_of_the_runs(study: tuple[list[str], Path]) -> None:
    from duo_oracle import results

    _, out = study
    verdicts = json.loads((out / "verdicts.json").read_text())
    for kind, branches in (("skip-full", ".B"), ("small-committed", "sB")):
        for text in ("prose", "code"):
            run = results.load(out / "runs" / f"{text}-{kind}")
            assert (run.identity["branches"], run.layers) == (branches, (1, 2, 3))
            assert sorted(set(run.tokens()["position"])) == [3, 4, 5, 6, 7, 8]  # six of each text, behind four tokens or more
            paths = run.paths()
            mine = paths[paths["budget"] == "any"]
            gain = float((mine["loss_full"] - mine["loss"]).mean())
            (effect,) = [e for e in verdicts[kind]["effects"] if e["what"].startswith(text)]
            assert effect["raw"][0] == pytest.approx(gain, abs=1e-5)
            assert effect["beyond"][0] == pytest.approx(float(mine["excess"].mean()), abs=1e-5)


@pytest.mark.slow
def test_the_same_command_goes_on_and_changes_nothing(study: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments, out = study
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    page = (out / "README.md").read_bytes()
    assert main(arguments) == 0
    assert "not " in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before
    assert (out / "README.md").read_bytes() == page


@pytest.mark.slow
def test_another_study_in_the_same_directory_is_refused(study: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments, out = study
    assert main([*arguments, "--seed", "1"]) == 2
    assert capsys.readouterr().err == f"duo-oracle: {out} holds a study with seed 0, not 1; choose another --out\n"


@pytest.mark.slow
def test_a_bare_model_is_studied_by_skips_alone(tmp_path: Path) -> None:
    import torch

    from tests.models.pretrained_models import random_checkpoint
    from tests.models.router_fixtures import N_VOCABULARY

    config, tensors = random_checkpoint("llama", 1, vocab_size=N_VOCABULARY, small_intermediate_size=None)
    generator = np.random.default_rng(0)
    rows = [{"document": f"d{n}", "tokens": generator.integers(0, N_VOCABULARY, 6).tolist()} for n in range(3)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_checkpoint(tmp_path / "bare", config, tensors, None, torch.float32)
    arguments = ["study", str(tmp_path / "bare"), "--data", str(tmp_path / "data.jsonl"), "--out", str(tmp_path / "out"), "--local"]
    assert main([*arguments, "--seq-len", "5", "--min-context", "0", "--beam-tokens", "4"]) == 0
    assert list(json.loads((tmp_path / "out" / "verdicts.json").read_text())) == ["skip-full", "beam"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "all-skip" in page
    assert "duo-oracle duo" in page
