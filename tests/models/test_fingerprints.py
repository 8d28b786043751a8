"""The fingerprint of large weights is remembered by their files, and only of weights that are as they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from duo_oracle.models import checkpoint
from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.models.family import load_family
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remembered import cache_folder, recalled, remember


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUO_ORACLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoint, "_LARGE", 0)
    config, tensors = load_family("toy").random_checkpoint(seed=0)
    checkpoint.write_checkpoint(tmp_path / "model", config, tensors, None, torch.float32)
    return tmp_path / "model"


def test_it_is_computed_once_and_again_where_anything_changed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_checkpoint(str(model)).fingerprint
    computed = []
    digest = checkpoint.fingerprint_of
    monkeypatch.setattr(checkpoint, "fingerprint_of", lambda *of: computed.append(1) or digest(*of))
    assert read_checkpoint(str(model)).fingerprint == first
    assert not computed
    weights = load_file(model / "model.safetensors")
    name = next(iter(weights))
    times = (model / "model.safetensors").stat()
    changed = {**weights, name: weights[name] + 1}
    content = (model / "model.safetensors").read_bytes()
    save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
    os.utime(model / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))  # as old as before
    other = read_checkpoint(str(model)).fingerprint
    assert other != first
    (model / "model.safetensors").write_bytes(content)
    assert read_checkpoint(str(model)).fingerprint == first
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "note": 1}))
    assert read_checkpoint(str(model)).fingerprint not in (first, other)
    assert len(computed) == 3


def test_weights_that_are_no_numbers_are_refused_every_time(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] = torch.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):
        with pytest.raises(InputError, match="weights must be finite numbers"):
            read_checkpoint(str(model))


def test_a_damaged_or_missing_file_remembers_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_checkpoint(str(model)).fingerprint
    (kept,) = cache_folder().iterdir()
    for content in ("", "{", "[1]", '{"x": 3}', '{"' + next(iter(json.loads(kept.read_text()))) + '": 3}'):
        kept.write_text(content)
        assert read_checkpoint(str(model)).fingerprint == first
    monkeypatch.setenv("DUO_ORACLE_CACHE", "/proc/nowhere")
    assert read_checkpoint(str(model)).fingerprint == first


def test_the_oldest_values_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUO_ORACLE_CACHE", str(tmp_path))
    (tmp_path / "facts.json").write_text(json.dumps({str(number): number for number in range(1000)}))
    remember("facts", "new", [1, "a"])
    assert recalled("facts", "new") == [1, "a"]
    assert recalled("facts", "0") is None
    assert recalled("facts", "1") == 1
