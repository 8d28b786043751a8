"""Where a worker has its model from."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from duo_oracle.models.checkpoint import read_checkpoint
from duo_oracle.search.job.weights import Weights, checkpoint_in


def test_weights_come_back_equal(duo: Path) -> None:
    checkpoint = read_checkpoint(str(duo))
    restored = Weights.of(checkpoint).restore()
    assert restored.fingerprint == checkpoint.fingerprint
    assert restored.tensors.keys() == checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        assert restored.tensors[name].dtype == tensor.dtype
        assert torch.equal(restored.tensors[name], tensor)


def test_a_directory_that_is_seen_is_read_where_it_is_the_same_model(duo: Path, toy: Path, tmp_path: Path) -> None:
    wanted = read_checkpoint(str(duo)).fingerprint
    found = checkpoint_in(str(duo), wanted)
    assert found is not None
    assert found.fingerprint == wanted
    cut = tmp_path / "cut"
    shutil.copytree(duo, cut)
    (cut / "model.safetensors").write_bytes(b"0")
    for other in (str(toy), str(cut), str(tmp_path / "none"), None):
        assert checkpoint_in(other, wanted) is None
