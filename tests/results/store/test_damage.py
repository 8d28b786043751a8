"""Runs that a disk, a person or a power cut has changed: read in a line's notice, never believed, and mended by the search."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.errors import InputError, Said
from duo_oracle.results import load
from duo_oracle.results.store import parts
from duo_oracle.results.store.manifest import read_manifest
from duo_oracle.results.store.writer import RunWriter
from tests.results.synthetic import Synthetic

WORK = Synthetic()
BAD_LINES = [b"\0" * 400, b"garbage", b"\xff\xfe{}", b'{"unit":1,"sequences":2', b"[]", b"7", b"{}", b"[" * 100_000, b"9" * 6_000]
BAD_LINES += [
    b'{"unit":-1,"message":"x"}',
    b'{"unit":1,"sequences":2,"tokens":12,"parts":{"../../x":{"rows":1,"bytes":1,"sha256":"a"}}}',
]


def half_done(directory: Path) -> bytes:
    """A run of two units out of six, as a kill leaves it: the journal not yet folded."""
    with RunWriter.open(directory, WORK.identity) as run:
        for unit in (0, 1):
            run.add_unit(WORK.write_unit(directory, run.run_id, unit))
        manifest, journal = ((directory / name).read_bytes() for name in ("run.json", "units.jsonl"))
    (directory / "run.json").write_bytes(manifest)
    return journal


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_damaged_line_of_the_journal_costs_its_unit_alone(tmp_path: Path, line: bytes) -> None:
    _, second, _ = half_done(tmp_path / "x").split(b"\n")
    (tmp_path / "x" / "units.jsonl").write_bytes(line + b"\n" + second + b"\n")
    with pytest.warns(Said, match=r"units.jsonl: line 1 cannot be read"):
        run = load(tmp_path / "x")
    assert set(run.manifest.units) == {1}
    assert len(run.tokens()) == 12
    with RunWriter.open(tmp_path / "x", WORK.identity) as again:
        assert again.finished_units == {1}
        assert again.manifest.damaged_lines == (1,)
        for unit in (0, 2, 3, 4, 5):
            again.add_unit(WORK.write_unit(tmp_path / "x", again.run_id, unit))
        again.finish()
    assert load(tmp_path / "x").paths().equals(WORK.write(tmp_path / "y").paths())


def _swapped(run: Path) -> None:
    shutil.copyfile(run / "paths" / "part-00001.parquet", run / "paths" / "part-00002.parquet")


def _flipped(run: Path) -> None:
    part = run / "paths" / "part-00002.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


def _named_twice(run: Path) -> None:
    """Both the part and its record: only the sequences tell."""
    values = json.loads((run / "run.json").read_text())
    for table in values["units"][2]["parts"]:
        shutil.copyfile(run / table / "part-00001.parquet", run / table / "part-00002.parquet")
    values["units"][2] = {**values["units"][1], "unit": 2}
    (run / "run.json").write_text(json.dumps(values))


@pytest.mark.parametrize("harm", [_swapped, _flipped, _named_twice])
def test_a_part_that_is_another_is_not_read(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    run = WORK.write(tmp_path / "x")
    harm(run.path)
    with pytest.raises(InputError, match=r"paths/part-00002.parquet .*(not the part that the run wrote|do not follow)"):
        load(run.path).paths()


def test_state_complete_is_not_believed_where_units_are_cut(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    values = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**values, "units": values["units"][:3]}))
    with RunWriter.open(run.path, WORK.identity, positions=72) as again:
        assert again.manifest.state == "running"
        assert again.finished_units == {0, 1, 2}


@pytest.mark.parametrize("name", ["paths", "tokens", "losses", "units.jsonl", ".lock"])
def test_nothing_is_changed_behind_a_link(tmp_path: Path, name: str) -> None:
    mine, other = WORK.write(tmp_path / "x"), WORK.write(tmp_path / "other")
    before = {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()}
    target = other.path / (name if name in ("paths", "tokens", "losses") else "run.json")
    if (mine.path / name).is_dir():
        shutil.rmtree(mine.path / name)
    (mine.path / name).unlink(missing_ok=True)
    (mine.path / name).symlink_to(target)
    changed = {**WORK.identity, "seed": 9}
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"behind a link"):
            RunWriter.open(mine.path, changed, overwrite=overwrite)
    assert {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()} == before


def test_parts_that_another_run_wrote_stay(tmp_path: Path) -> None:
    run, other = WORK.write(tmp_path / "x"), Synthetic(seed=1).write(tmp_path / "other")
    foreign = run.path / "paths" / "part-00077.parquet"
    shutil.copyfile(other.path / "paths" / "part-00000.parquet", foreign)
    (run.path / "tokens" / "part-00078.parquet").write_text("no Parquet")
    with RunWriter.open(run.path, {**WORK.identity, "seed": 9}, overwrite=True):
        pass
    assert sorted(path.name for path in run.path.rglob("part-*")) == ["part-00077.parquet", "part-00078.parquet"]


VALUES: list[tuple[str, Any]] = [
    ("state", "done"), ("state", 1), ("units", {}), ("units", [7]), ("units", [{"unit": 2**70}]), ("sessions", "x"),
    ("sessions", [{}]),
    ("sessions", [{"started": 3, "seconds": None, "units": 0}]), ("failed", [{"unit": 1, "message": 4}]), ("identity", []),
    ("identity", {"budgets": 3}), ("schema_version", "2"), ("config", 5), ("model", ["a"]), ("versions", 1), ("run_id", None),
    ("unit_sequences", "four"), ("schema_version", "5000 digits"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_manifest_edited_by_hand_is_refused_in_a_line(tmp_path: Path, key: str, value: Any) -> None:
    run = WORK.write(tmp_path / "x")
    values = json.loads((run.path / "run.json").read_text())
    text = json.dumps({**values, key: "HERE"}).replace('"HERE"', "9" * 5000 if value == "5000 digits" else json.dumps(value))
    (run.path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run.json is not a run's manifest: .+") as caught:
        load(run.path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_too_deep_or_no_text_is_refused(tmp_path: Path) -> None:
    run = WORK.write(tmp_path / "x")
    for content in (b"[" * 100_000, b"\xff", b"", b"NaN"):
        (run.path / "run.json").write_bytes(content)
        with pytest.raises(InputError, match="not a run's manifest"):
            read_manifest(run.path)


def test_a_full_disk_leaves_nothing_of_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three files fails to reach the disk, after the first is whole."""
    synced = []

    def full(number: int) -> None:
        synced.append(number)
        if len(synced) == 2:
            raise OSError(28, os.strerror(28))

    with RunWriter.open(tmp_path / "x", WORK.identity) as run:
        monkeypatch.setattr(parts.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            WORK.write_unit(tmp_path / "x", run.run_id, 0)
        monkeypatch.undo()
        assert list((tmp_path / "x").rglob("*.parquet")) == []
        run.add_unit(WORK.write_unit(tmp_path / "x", run.run_id, 0))
    assert pq.read_metadata(tmp_path / "x" / "paths" / "part-00000.parquet").num_rows == 60
