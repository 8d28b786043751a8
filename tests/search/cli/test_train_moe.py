"""`duo-oracle train-moe` and `export`, and a search of what they made."""

from __future__ import annotations

from pathlib import Path

import pytest

from duo_oracle.search.cli import main
from tests.models.router_fixtures import write_text


def test_from_the_command_line_and_searched_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, exported where transformers has the like, and searched: `B` is its own routing, `s` the shared expert alone."""
    text = write_text(tmp_path / "text.jsonl", 120)
    small = "--layers 3 --hidden 16 --heads 2 --kv-heads 1 --ffn 32 --vocabulary 280 --positions 16 --batch 4 --threads 1"
    argv = ["train-moe", text, *small.split(), "--tokens", "128", "--work", str(tmp_path / "work")]
    argv += ["--holdouts", text, "--holdout-tokens", "100"]
    assert main([*argv, "--router", "token_choice", "--out", str(tmp_path / "tc")]) == 0
    assert main(["export", str(tmp_path / "tc"), "--out", str(tmp_path / "glm")]) == 0
    assert "a glm4_moe model of transformers" in capsys.readouterr().out
    assert main([*argv, "--router", "expert_threshold", "--out", str(tmp_path / "et")]) == 0
    assert main(["export", str(tmp_path / "et"), "--out", str(tmp_path / "no")]) == 2
    assert "none compares an expert's logit with a cutoff" in capsys.readouterr().err
    search = ["search", str(tmp_path / "et"), text, "--max-sequences", "2", "--seq-len", "8", "--local"]
    assert main([*search, "--route-layers", "1-2", "--budget", "any,1", "--out", str(tmp_path / "run")]) == 0
    assert main(["verify", str(tmp_path / "run"), "--all"]) == 0
