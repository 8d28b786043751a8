"""Manifests and parts that were changed together with their ids and checksums: refused in a line, by what they say."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.results import load
from duo_oracle.results.store.columns import COLUMNS, REQUIRED
from duo_oracle.results.store.kept_losses import KeptLosses
from duo_oracle.results.store.manifest import file_sha256, run_id_of
from duo_oracle.results.store.reader import StoredRun
from duo_oracle.results.store.reader import load as load_stored
from tests.results.synthetic import Synthetic

WORK = Synthetic()
IDENTITIES: list[tuple[str, Any]] = [
    *(("n_letters", value) for value in (0, -1, 10**9, "4", 2.0, True)),
    *(("budgets", value) for value in ([], "any", [4], ["99"], ["0-3"], ["x"], {}, ["any", "any"], ["2", "02"])),
    *(("context", value) for value in (1, "sideways", "BsBsBsBsBsBsBs")),
    *(("branches", value) for value in ("", "xyz", 5, ["s"])),
    *(("route_layers", value) for value in ([1], ["a"], [3, 2, 1, 0], "0-3")),
    *(("cheapest", "q"), ("skip", "most"), ("dtype", "float8"), ("seed", -1), ("seed", 2**70), ("seq_len", "x")),
    *(("null_temperature", "hot"), ("null_temperature", -1), ("null_temperatures", {"a": "b"}), ("reference", "x")),
    *(("budgets", None), ("context", None), ("seed", None)),
    *(("model_fingerprint", 7), ("settings", []), ("bos", [None]), ("null_draws", 1.5)),
]


def with_identity(directory: Path, **changed: Any) -> None:
    values = json.loads((directory / "run.json").read_text())
    identity = {**values["identity"], **changed}
    (directory / "run.json").write_text(json.dumps({**values, "identity": identity, "run_id": run_id_of(identity)}))


@pytest.mark.parametrize(("key", "value"), IDENTITIES)
def test_an_identity_of_no_run_is_refused_in_a_line(tmp_path: Path, key: str, value: Any) -> None:
    run = WORK.write(tmp_path / "x")
    with_identity(run.path, **{key: value})
    with pytest.raises(InputError, match=r"run.json is not a run's manifest: .+") as refused:
        load(run.path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in ("unit_sequences", "depth") for v in (-1, 0, 2**63, 1.5, True, "1")])
def test_a_fact_that_is_no_number_of_things_is_refused_in_a_line(tmp_path: Path, key: str, value: Any) -> None:
    run = WORK.write(tmp_path / "x")
    values = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises(InputError, match=rf"run.json is not a run's manifest: {key} must be"):
        load(run.path)


def test_what_an_identity_does_not_say_is_said_by_who_asks(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    values = json.loads((run.path / "run.json").read_text())
    identity = {key: value for key, value in values["identity"].items() if key != "budgets"}
    (run.path / "run.json").write_text(json.dumps({**values, "identity": identity, "run_id": run_id_of(identity)}))
    with pytest.raises(InputError, match="does not say budgets"):
        _ = load_stored(run.path).budgets


def sealed(directory: Path, table: str, changed: pa.Table) -> StoredRun:
    """The run with the part of its first unit replaced, and named by the manifest as it is."""
    path = directory / table / "part-00000.parquet"
    pq.write_table(changed, path)
    values = json.loads((directory / "run.json").read_text())
    part = {"rows": changed.num_rows, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    values["units"][0]["parts"][table] = part
    (directory / "run.json").write_text(json.dumps(values))
    return load_stored(directory)


@pytest.mark.parametrize("table", ["tokens", "paths"])
def test_columns_of_other_types_doubled_missing_or_null(tmp_path: Path, table: str) -> None:
    run = WORK.write(tmp_path / "x")
    whole = pq.read_table(run.path / table / "part-00000.parquet")
    for number, column in enumerate(COLUMNS[table]):
        other = pa.array(["x"] * whole.num_rows) if not pa.types.is_string(column.type) else pa.array([1] * whole.num_rows)
        faults = {
            rf"has the column {column.name} as": whole.set_column(number, column.name, other),
            rf"has two columns {column.name}": whole.append_column(column.name, whole.column(number)),
        }
        if column.name in REQUIRED[table]:
            faults[rf"has no column {column.name}"] = whole.remove_column(number)
            nulls = pa.nulls(whole.num_rows, column.type)
            faults[rf"has a null in the column {column.name}"] = whole.set_column(number, column.name, nulls)
        for fault, changed in faults.items():
            with pytest.raises(InputError, match=fault):
                sealed(run.path, table, changed).dataset(table)
    sealed(run.path, table, whole).dataset(table)


def test_a_footer_that_contradicts_itself_is_refused_and_ends_no_process(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    path = run.path / "paths" / "part-00000.parquet"
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    n_found = 0
    for place in range(start, len(content) - 8):
        path.write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        if not _contradicts_itself(path):
            continue
        n_found += 1
        values = json.loads((run.path / "run.json").read_text())
        values["units"][0]["parts"]["paths"]["sha256"] = file_sha256(path)
        (run.path / "run.json").write_text(json.dumps(values))
        with pytest.raises(InputError, match=r"is no Parquet file that can be read: .*histogram size mismatch"):
            load_stored(run.path).dataset("paths")
        if n_found == 3:
            break
    assert n_found


@pytest.mark.parametrize("table", ["tokens", "paths", "losses"])
def test_names_of_columns_that_are_no_text_are_refused_in_a_line(tmp_path: Path, table: str) -> None:
    """The name stands in the schema of the footer, and once for each row group; and in Arrow's schema, as base64."""
    run = WORK.write(tmp_path / "x")
    path = run.path / table / "part-00000.parquet"
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places = [match.start() for match in re.finditer(b"sequence", content) if match.start() > start]
    n_read = 0
    for place in places:
        path.write_bytes(content[: place + 2] + b"\xff" + content[place + 3 :])
        values = json.loads((run.path / "run.json").read_text())
        values["units"][0]["parts"][table]["sha256"] = file_sha256(path)
        (run.path / "run.json").write_text(json.dumps(values))
        with contextlib.suppress(InputError):  # and no other; a row group's own copy of the name is not read
            load_stored(run.path).dataset(table).to_table()
            n_read += 1
    assert n_read < len(places)


def _contradicts_itself(path: Path) -> bool:
    """Whether reading a required column says so."""
    try:
        with pq.ParquetFile(path) as file:
            next(file.iter_batches(batch_size=1, columns=list(REQUIRED["paths"])), None)
    except (pa.ArrowException, OSError) as fault:
        return "level histogram size mismatch" in str(fault)
    return False


def test_losses_outside_a_sequence_and_patterns_of_another_length(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    whole = pq.read_table(run.path / "losses" / "part-00000.parquet")
    place = whole.schema.get_field_index("position")
    for shift in (-1, 1000):
        moved = pa.array([number + shift for number in whole["position"].to_pylist()], whole.schema.field("position").type)
        changed = sealed(run.path, "losses", whole.set_column(place, whole.schema.field("position"), moved))
        with pytest.raises(InputError, match=r"losses of sequence 0 are of positions .*, and its tokens of 0-"):
            KeptLosses(changed).read(0)
    sealed(run.path, "losses", whole)
    with_identity(run.path, n_letters=3, budgets=["any"])
    with pytest.raises(InputError, match="has patterns of 4 letters, and the run's manifest says 3"):
        load_stored(run.path).dataset("paths")


def test_a_part_of_an_older_run_lacks_columns_that_may_be_null(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    whole = pq.read_table(run.path / "paths" / "part-00000.parquet")
    older = sealed(run.path, "paths", whole.select(list(REQUIRED["paths"])).replace_schema_metadata(whole.schema.metadata))
    assert older.dataset("paths").to_table()["null_gain"].null_count >= whole.num_rows
