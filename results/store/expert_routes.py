"""Files of the experts that tokens took: `routed_experts` as servers return it, and traces with scores. Read and written here.

| ending | holds |
|---|---|
| .npy | int16 [tokens, layers, k], as vLLM returns `routed_experts`; a row for each of a run's scored positions, in order |
| .npz | the same by the name `routed_experts`; where kept `scores` (float32, of that shape), and `sequence` and `position` |
| .jsonl | a row a line: `indices`, a list of experts for each layer; where kept `scores`, and `sequence` and `position` |
| .parquet | the same, as columns |

Experts are counted from 0; -1 stands where a token took fewer. Nothing is ever unpickled. Knows no torch and no model.

Axes: R rows, N a run's positions, L layer, k experts of a token.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from duo_oracle.oracle.base.columns import refuse_doubled
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.json_text import parsed_json
from duo_oracle.oracle.base.parquet import parquet_faults
from duo_oracle.oracle.base.places import local_path
from duo_oracle.oracle.base.remote import readable
from duo_oracle.oracle.base.whole_file import written_whole

ENDINGS = (".npy", ".npz", ".jsonl", ".parquet")
NO_EXPERT = -1
_MOST = np.iinfo(np.int16).max
_PLACE = ("sequence", "position")


@dataclass(frozen=True)
class ExpertRoutes:
    """experts_RLk int16, NO_EXPERT where there are fewer; scores_RLk float32 where kept; the rows' places (R,) int64, or None where
    the rows are a run's scored positions in order."""

    experts_RLk: np.ndarray
    scores_RLk: np.ndarray | None = None
    sequence_R: np.ndarray | None = None
    position_R: np.ndarray | None = None


def is_expert_file(file: str | os.PathLike[str]) -> bool:
    """Whether a file is one of experts: by its ending, and of Parquet by its columns."""
    name = os.fspath(file)
    if not name.endswith(".parquet"):
        return name.endswith(ENDINGS)
    try:
        return "indices" in pq.read_schema(readable(file)).names
    except parquet_faults():
        return False


def read_expert_routes(file: str | os.PathLike[str]) -> ExpertRoutes:
    """What a file of experts holds.

    Raises InputError, one line with file, row (counted from 0), layer and value, for another ending, what cannot be read without
    pickle, another type or shape, an expert below -1 or twice in a set, scores that are no numbers, and a place that is none."""
    path = readable(file)
    if not path.is_file():
        raise InputError(f"routes are a file; there is no {str(path)!r}")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: experts are read from {', '.join(ENDINGS)}")
    found = readers[path.suffix](path)
    experts_RLk = _checked_experts(path, found.get("routed_experts"))
    scores = found.get("scores")
    scores_RLk = None if scores is None else _checked_scores(path, scores, experts_RLk)
    places = [found.get(name) for name in _PLACE]
    if (places[0] is None) != (places[1] is None):
        raise InputError(f"{path}: rows have both sequence and position, or neither; got {_PLACE[places[0] is None]} alone")
    sequence_R, position_R = (_checked_places(path, name, found.get(name), len(experts_RLk)) for name in _PLACE)
    return ExpertRoutes(experts_RLk.astype(np.int16), scores_RLk, sequence_R, position_R)


def write_expert_routes(file: str | os.PathLike[str], routes: ExpertRoutes) -> None:
    """Writes a file that `read_expert_routes` reads; .npy holds the experts alone. A file that exists is whole."""
    path = Path(local_path(file))
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: experts are written to {', '.join(ENDINGS)}")
    experts_RLk = _checked_experts(path, routes.experts_RLk).astype(np.int16)
    arrays = {"scores": routes.scores_RLk, "sequence": routes.sequence_R, "position": routes.position_R}
    kept = {name: array for name, array in arrays.items() if array is not None}
    with written_whole(path) as aside:
        if path.suffix == ".npy":
            with open(aside, "wb") as out:
                np.save(out, experts_RLk, allow_pickle=False)
        elif path.suffix == ".npz":
            with open(aside, "wb") as out:
                np.savez(out, **{"routed_experts": experts_RLk, **kept})  # type: ignore[arg-type]  # none is called allow_pickle
        else:
            rows = {name: kept[name].tolist() for name in _PLACE if name in kept}
            rows["indices"] = _ragged(experts_RLk, experts_RLk)
            if "scores" in kept:
                rows["scores"] = _ragged(kept["scores"].astype(np.float64), experts_RLk)
            if path.suffix == ".parquet":
                types = {
                    "sequence": pa.int32(),
                    "position": pa.int32(),
                    "indices": _lists(pa.int16()),
                    "scores": _lists(pa.float32()),
                }
                pq.write_table(pa.table({name: pa.array(column, types[name]) for name, column in rows.items()}), aside)
            else:
                lines = (json.dumps(dict(zip(rows, row, strict=True))) + "\n" for row in zip(*rows.values(), strict=True))
                Path(aside).write_text("".join(lines), encoding="utf-8")


def _lists(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.list_(kind))


def _ragged(values_RLk: np.ndarray, experts_RLk: np.ndarray) -> list[list[list[Any]]]:
    """The values where there is an expert, as lists."""
    return [
        [values_k[there_k].tolist() for values_k, there_k in zip(values_Lk, there_Lk, strict=True)]
        for values_Lk, there_Lk in zip(values_RLk, experts_RLk != NO_EXPERT, strict=True)
    ]


def _read_npy(path: Path) -> dict[str, Any]:
    return {"routed_experts": _loaded(path, path)}


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if "routed_experts" not in names:
                raise InputError(f"{path}: holds the array routed_experts; got {', '.join(names) or 'none'}")
            found = {}
            for name in ("routed_experts", "scores", *_PLACE):
                if name in names:
                    with archive.open(f"{name}.npy") as member:
                        found[name] = _loaded(path, member)
            return found
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as fault:
        raise InputError(f"{path}: not an .npz file that can be read: {fault}") from None


def _loaded(path: Path, source: Any) -> np.ndarray:
    try:
        found = np.lib.format.read_array(source, allow_pickle=False) if not isinstance(source, Path) else _from_file(source)
    except (ValueError, EOFError, OSError, MemoryError, SyntaxError) as fault:
        said = (str(fault) or type(fault).__name__).splitlines()[0]
        raise InputError(f"{path}: not an array that can be read without pickle: {said}") from None
    return found


def _from_file(path: Path) -> np.ndarray:
    with path.open("rb") as source:
        return np.lib.format.read_array(source, allow_pickle=False)


def _read_jsonl(path: Path) -> dict[str, Any]:
    rows = []
    with path.open("rb") as source:
        for number, line in enumerate(source):
            if not line.strip():
                continue
            try:
                value = parsed_json(line)
            except ValueError as fault:
                raise InputError(f"{path} row {number}: must be JSON; {fault}") from None
            if not isinstance(value, dict) or "indices" not in value:
                raise InputError(
                    f"{path} row {number}: an object with indices, a list of experts for each layer; got {value!r:.80}"
                )
            rows.append(value)
    return _columns(path, {name: [row.get(name) for row in rows] for name in ("indices", "scores", *_PLACE)})


def _read_parquet(path: Path) -> dict[str, Any]:
    try:
        names = pq.read_schema(path).names
        wanted = [name for name in ("indices", "scores", *_PLACE) if name in names]
        refuse_doubled(names, wanted, str(path))
        if "indices" not in wanted:
            raise InputError(f"{path}: has a column indices, a list of experts for each layer; got {', '.join(names) or 'none'}")
        table = pq.read_table(path, columns=wanted)
    except parquet_faults() as fault:
        raise InputError(f"{path}: not a Parquet file that can be read: {str(fault).splitlines()[0]}") from None
    return _columns(path, {name: table[name].to_pylist() for name in wanted})


def _columns(path: Path, rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Columns of values that JSON has, as arrays: lists of unequal length padded. A column without a value is left out."""
    found: dict[str, Any] = {"routed_experts": _padded(path, "indices", rows["indices"], NO_EXPERT, int)}
    if any(value is not None for value in rows.get("scores", ())):
        found["scores"] = _padded(path, "scores", rows["scores"], 0.0, (int, float))
        for row, (experts, scores) in enumerate(zip(rows["indices"], rows["scores"], strict=True)):
            if list(map(len, experts)) != list(map(len, scores)):
                raise InputError(f"{path} row {row}: scores has a number for each of indices; got {scores!r:.80}")
    for name in _PLACE:
        values = rows.get(name, [])
        if any(value is not None for value in values):
            for row, value in enumerate(values):
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
                    raise InputError(f"{path} row {row}: {name} is a whole number from 0 on; got {value!r:.80}")
            found[name] = np.array(values, dtype=np.int64)
    return found


def _padded(path: Path, name: str, rows: Sequence[Any], fill: float, kind: Any) -> np.ndarray:
    """Lists of lists as one array (R, L, k)."""
    for row, value in enumerate(rows):
        if not isinstance(value, list) or not all(isinstance(layer, list) for layer in value):
            raise InputError(f"{path} row {row}: {name} is a list for each layer; got {value!r:.80}")
        if len(value) != len(rows[0]):
            raise InputError(f"{path} row {row}: {name} has {len(value)} layers; row 0 has {len(rows[0])}")
        for layer, values in enumerate(value):
            for one in values:
                if not isinstance(one, kind) or isinstance(one, bool) or abs(one) > 2**62:
                    raise InputError(f"{path} row {row}, layer {layer}: {name} are numbers, experts whole ones; got {one!r:.80}")
    widest = max((len(values) for value in rows for values in value), default=0)
    n_layers = len(rows[0]) if len(rows) else 0
    found = np.full((len(rows), n_layers, widest), fill, dtype=np.int64 if kind is int else np.float64)
    for row, value in enumerate(rows):
        for layer, values in enumerate(value):
            found[row, layer, : len(values)] = values
    return found


def _checked_experts(path: Path, array: Any) -> np.ndarray:
    if array is None or array.dtype.kind not in "iu" or array.ndim != 3:
        got = "none" if array is None else f"{array.dtype} {list(array.shape)}"
        raise InputError(f"{path}: experts are int16 [tokens, layers, k]; got {got}")
    wrong = np.argwhere((array < NO_EXPERT) | (array > _MOST))
    if len(wrong):
        row, layer, _ = wrong[0]
        got = array[tuple(wrong[0])]
        raise InputError(f"{path} row {row}, layer {layer}: an expert is a number from 0 to {_MOST}, or -1 for none; got {got}")
    sorted_RLk = np.sort(array.astype(np.int64), axis=2)
    twice = np.argwhere((sorted_RLk[..., 1:] == sorted_RLk[..., :-1]) & (sorted_RLk[..., 1:] != NO_EXPERT))
    if len(twice):
        row, layer, place = twice[0]
        raise InputError(
            f"{path} row {row}, layer {layer}: a token takes an expert once; got {sorted_RLk[row, layer, place]} twice"
        )
    return array


def _checked_scores(path: Path, array: np.ndarray, experts_RLk: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf" or array.shape != experts_RLk.shape:
        raise InputError(
            f"{path}: scores are float32 {list(experts_RLk.shape)}, one for each expert; got {array.dtype} {list(array.shape)}"
        )
    wrong = np.argwhere(~np.isfinite(array) & (experts_RLk != NO_EXPERT))
    if len(wrong):
        row, layer, _ = wrong[0]
        raise InputError(f"{path} row {row}, layer {layer}: a score is a finite number; got {array[tuple(wrong[0])]}")
    return array.astype(np.float32)


def _checked_places(path: Path, name: str, array: Any, n_rows: int) -> np.ndarray | None:
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.shape != (n_rows,):
        raise InputError(f"{path}: {name} is a whole number for each of {n_rows} rows; got {array.dtype} {list(array.shape)}")
    wrong = np.flatnonzero((array < 0) | (array >= 2**31))
    if len(wrong):
        raise InputError(f"{path} row {wrong[0]}: {name} is a whole number from 0 on; got {array[wrong[0]]}")
    return array.astype(np.int64)
