"""Files of experts: every form holds what was written, and what is no such file is one line with its row and value."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results.store.expert_routes import (
    ENDINGS,
    ExpertRoutes,
    is_expert_file,
    read_expert_routes,
    write_expert_routes,
)

EXPERTS = np.array([[[0, 3], [2, -1]], [[5, 1], [-1, -1]], [[4, 2], [0, 1]]], dtype=np.int16)
SCORES = np.where(EXPERTS < 0, 0, EXPERTS / 8 + 0.125).astype(np.float32)
ROUTES = ExpertRoutes(EXPERTS, SCORES, np.array([0, 0, 1]), np.array([1, 2, 0]))


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"experts{ending}"
    write_expert_routes(file, ROUTES)
    found = read_expert_routes(file)
    assert found.experts_RLk.dtype == np.int16
    assert np.array_equal(found.experts_RLk, EXPERTS)
    assert is_expert_file(file)
    if ending == ".npy":
        assert (found.scores_RLk, found.sequence_R, found.position_R) == (None, None, None)
        assert np.array_equal(np.load(file, allow_pickle=False), EXPERTS)
        return
    assert found.scores_RLk is not None
    assert np.array_equal(found.scores_RLk, SCORES)
    assert np.array_equal(found.sequence_R, [0, 0, 1])
    assert np.array_equal(found.position_R, [1, 2, 0])


def test_a_trace_without_scores_and_places_is_read(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text('{"indices": [[1, 2], [0]]}\n\n{"indices": [[3], []]}\n')
    found = read_expert_routes(file)
    assert found.experts_RLk.tolist() == [[[1, 2], [0, -1]], [[3, -1], [-1, -1]]]
    assert (found.scores_RLk, found.sequence_R) == (None, None)


def _npy(array: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.save(folder / "a.npy", array, allow_pickle=True)
        return folder / "a.npy"

    return write


def _npz(**arrays: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return write


def _file(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _lines(*rows: object) -> Callable[[Path], Path]:
    return _file("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def _parquet(**columns: list) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / "a.parquet")
        return folder / "a.parquet"

    return write


BAD = np.where(EXPERTS == 5, -7, EXPERTS)
TWICE = np.where(EXPERTS == 5, 1, EXPERTS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_npy(np.array([[["x"]]], dtype=object)), "without pickle"),
        (_file("a.npy", pickle.dumps(EXPERTS)), "without pickle"),
        (_file("a.npy", b""), "without pickle"),
        (_npy(EXPERTS.astype(np.float32)), r"int16 \[tokens, layers, k\]; got float32 \[3, 2, 2\]"),
        (_npy(EXPERTS[0]), r"got int16 \[2, 2\]"),
        (_npy(BAD), "row 1, layer 0: an expert is a number from 0 to 32767, or -1 for none; got -7"),
        (_npy(EXPERTS.astype(np.int64) + 40_000), "got 40000"),
        (_npy(TWICE), "row 1, layer 0: a token takes an expert once; got 1 twice"),
        (_npz(other=EXPERTS), "holds the array routed_experts; got other"),
        (_npz(routed_experts=EXPERTS, scores=SCORES[:2]), r"scores are float32 \[3, 2, 2\]"),
        (_npz(routed_experts=EXPERTS, scores=np.where(EXPERTS == 5, np.nan, SCORES)), "row 1, layer 0: a score is a finite number"),
        (_npz(routed_experts=EXPERTS, sequence=np.zeros(3, int)), "both sequence and position, or neither; got sequence alone"),
        (_npz(routed_experts=EXPERTS, sequence=np.zeros(3, int), position=np.array([0, -2, 1])), "row 1: position .* got -2"),
        (_npz(routed_experts=EXPERTS, scores=np.array({}, dtype=object)), "without pickle"),
        (_file("a.npz", b"PK\x03\x04nothing"), "not an .npz file"),
        (_lines({"indices": [[1]]}, {"indices": [[1], [2]]}), "row 1: indices has 2 layers; row 0 has 1"),
        (_lines({"indices": [[1]]}, {"index": 3}), "row 1: an object with indices"),
        (_lines({"indices": [[1.5]]}), "row 0, layer 0: indices are numbers, experts whole ones; got 1.5"),
        (_lines({"indices": [[True]]}), "got True"),
        (_lines({"indices": [[1]], "scores": [[0.5, 0.5]]}), "scores has a number for each of indices"),
        (_lines({"indices": [[1]], "sequence": 0, "position": "x"}), "row 0: position is a whole number from 0 on; got 'x'"),
        (_file("a.jsonl", b"{\n"), "row 0: must be JSON"),
        (_parquet(pattern=["sB"]), "has a column indices"),
        (_parquet(indices=[[[1]], [[1], [2]]]), "row 1: indices has 2 layers"),
        (_parquet(indices=[[1]]), "row 0: indices is a list for each layer"),
        (_file("a.parquet", b"PAR1"), "not a Parquet file"),
        (_file("a.pt", b""), "experts are read from .npy, .npz, .jsonl, .parquet"),
    ],
)
def test_what_is_no_file_of_experts_is_one_line(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    file = make(tmp_path)
    with pytest.raises(InputError, match=words) as refused:
        read_expert_routes(file)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)
