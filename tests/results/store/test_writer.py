"""A run's directory: created, continued, refused, and whole at every moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duo_oracle.results import load
from duo_oracle.results.store.manifest import file_sha256, read_manifest, run_id_of
from duo_oracle.results.store.parts import UnitWriter
from duo_oracle.results.store.records import PartRecord, UnitRecord
from duo_oracle.results.store.writer import RunWriter
from tests.results.synthetic import Synthetic


def bytes_by_part(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): file_sha256(path) for path in sorted(directory.rglob("*.parquet"))}


def test_equal_runs_write_equal_bytes(tmp_path: Path) -> None:
    first = Synthetic().write(tmp_path / "a")
    second = Synthetic().write(tmp_path / "b")
    assert bytes_by_part(first.path) == bytes_by_part(second.path)
    assert len(bytes_by_part(first.path)) == 3 * 6
    assert bytes_by_part(first.path) != bytes_by_part(Synthetic(seed=1).write(tmp_path / "c").path)


def test_order_of_units_changes_nothing(tmp_path: Path) -> None:
    work = Synthetic()
    straight = work.write(tmp_path / "a")
    with RunWriter.open(tmp_path / "b", work.identity) as run:
        for unit in (3, 0, 5, 1, 4, 2):
            run.add_unit(work.write_unit(tmp_path / "b", run.run_id, unit))
        run.finish()
    assert bytes_by_part(tmp_path / "b") == bytes_by_part(straight.path)
    assert load(tmp_path / "b").manifest.units == straight.manifest.units
    assert load(tmp_path / "b").paths().equals(straight.paths())


def test_the_manifest_names_rows_bytes_and_checksums(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "x")
    values = json.loads((run.path / "run.json").read_text())
    assert values["state"] == "complete"
    assert values["run_id"] == run_id_of(Synthetic().identity)
    assert values["config"] == {"seed": 0}
    unit = values["units"][2]
    part = run.path / "paths" / "part-00002.parquet"
    assert unit["parts"]["paths"] == {"rows": 12 * 5, "bytes": part.stat().st_size, "sha256": file_sha256(part)}
    assert unit["tokens"] == 12
    assert unit["sequences"] == 2
    assert values["sessions"][0]["units"] == 6
    assert not (run.path / "units.jsonl").exists()


def test_a_continued_run_does_only_what_is_missing(tmp_path: Path) -> None:
    work = Synthetic()
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        for unit in (0, 2):
            run.add_unit(work.write_unit(tmp_path / "x", run.run_id, unit))
    assert load(tmp_path / "x").manifest.state == "running"
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        assert run.finished_units == {0, 2}
        for unit in set(range(work.documents)) - run.finished_units:
            run.add_unit(work.write_unit(tmp_path / "x", run.run_id, unit))
        run.finish({"tokens_per_second": 3.5})
    continued = load(tmp_path / "x")
    assert continued.manifest.state == "complete"
    assert [session["units"] for session in continued.manifest.sessions] == [2, 4]
    assert all(session["seconds"] > 0 for session in continued.manifest.sessions)
    assert continued.manifest.sessions[-1]["tokens_per_second"] == 3.5
    assert bytes_by_part(tmp_path / "x") == bytes_by_part(work.write(tmp_path / "y").path)


def test_a_torn_last_line_of_the_journal_is_ignored_and_the_rest_kept(tmp_path: Path) -> None:
    work = Synthetic()
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        for unit in (0, 1):
            run.add_unit(work.write_unit(tmp_path / "x", run.run_id, unit))
        manifest, journal = ((tmp_path / "x" / name).read_text() for name in ("run.json", "units.jsonl"))
    # As a kill leaves them, in the middle of the last line.
    (tmp_path / "x" / "run.json").write_text(manifest)
    (tmp_path / "x" / "units.jsonl").write_text(journal[:-7])
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        assert run.finished_units == {0}
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 1))
    assert set(read_manifest(tmp_path / "x").units) == {0, 1}


def test_parts_that_the_manifest_does_not_name_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    work = Synthetic()
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 0))
        work.write_unit(tmp_path / "x", run.run_id, 1)  # killed before it was named
    torn = tmp_path / "x" / "paths" / ".part-00002.77.tmp.parquet"
    torn.write_bytes(b"half")
    note = tmp_path / "x" / "paths" / "note.txt"
    note.write_text("mine")
    with RunWriter.open(tmp_path / "x", work.identity):
        assert sorted(path.name for path in (tmp_path / "x" / "paths").iterdir()) == ["note.txt", "part-00000.parquet"]


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_broken_part_is_searched_again(tmp_path: Path, harm: str) -> None:
    work = Synthetic()
    run = work.write(tmp_path / "x")
    whole = bytes_by_part(run.path)
    part = run.path / "losses" / "part-00003.parquet"
    content = part.read_bytes()
    if harm == "gone":
        part.unlink()
    else:
        part.write_bytes(content[:-1] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with RunWriter.open(run.path, work.identity) as again:
        assert again.broken_units == (3,)
        assert again.manifest.state == "running"
        assert again.finished_units == {0, 1, 2, 4, 5}
        again.add_unit(work.write_unit(run.path, again.run_id, 3))
        again.finish()
    assert bytes_by_part(run.path) == whole


def test_a_run_of_another_identity_is_refused_with_key_and_both_values(tmp_path: Path) -> None:
    Synthetic().write(tmp_path / "x")
    with pytest.raises(ValueError, match=r"context 'full', not 'same'; `overwrite` replaces it") as caught:
        RunWriter.open(tmp_path / "x", Synthetic(context="same").identity)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="extra None, not 1"):
        RunWriter.open(tmp_path / "x", Synthetic().identity | {"extra": 1})
    with RunWriter.open(tmp_path / "x", Synthetic().identity) as run:
        assert len(run.finished_units) == 6


def test_overwrite_replaces_a_run_and_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    Synthetic().write(tmp_path / "x")
    (tmp_path / "x" / "report.html").write_text("mine")
    work = Synthetic(context="same", documents=2)
    with RunWriter.open(tmp_path / "x", work.identity, overwrite=True) as run:
        assert run.finished_units == set()
        assert not list((tmp_path / "x").rglob("*.parquet"))
    assert work.write(tmp_path / "x").n_tokens == 24
    assert (tmp_path / "x" / "report.html").exists()


def test_overwrite_touches_nothing_that_is_not_a_run(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    (precious / "paths").mkdir(parents=True)
    (precious / "paths" / "part-00000.parquet").write_text("precious")
    with pytest.raises(ValueError, match=r"holds paths and no run\.json"):
        RunWriter.open(precious, {}, overwrite=True)
    (precious / "run.json").write_text('{"someone": "else"}')
    with pytest.raises(ValueError, match="not a run's manifest"):
        RunWriter.open(precious, {}, overwrite=True)
    assert (precious / "paths" / "part-00000.parquet").read_text() == "precious"


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="`out` is a directory that can be written"):
        RunWriter.open(tmp_path / "x", {})


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    with RunWriter.open(tmp_path / "x", {}), pytest.raises(ValueError, match="another one is writing"):
        RunWriter.open(tmp_path / "x", {})
    RunWriter.open(tmp_path / "x", {}).close()


HOLD = """
import sys, time
from tests.results.synthetic import Synthetic
from duo_oracle.results.store.writer import RunWriter
from pathlib import Path
work, directory = Synthetic(), Path(sys.argv[1])
with RunWriter.open(directory, work.identity) as run:
    for unit in range(3):
        run.add_unit(work.write_unit(directory, run.run_id, unit))
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_driver_leaves_its_units_and_no_lock(tmp_path: Path) -> None:
    work = Synthetic()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "x")], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(ValueError, match="another one is writing"):
            RunWriter.open(tmp_path / "x", work.identity)
        os.kill(child.pid, signal.SIGKILL)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        assert run.finished_units == {0, 1, 2}
        assert run.broken_units == ()
    assert [session["units"] for session in load(tmp_path / "x").manifest.sessions] == [3, 0]
    assert all(session["seconds"] is not None for session in load(tmp_path / "x").manifest.sessions)


def test_failed_units_are_kept_by_name_and_tried_again(tmp_path: Path) -> None:
    work = Synthetic(documents=2)
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 0))
        run.add_failure(1, "ValueError: no such state")
        assert load(tmp_path / "x").manifest.failed == {1: "ValueError: no such state"}
        run.finish()
    stored = load(tmp_path / "x").manifest
    assert stored.state == "running"
    assert stored.failed == {1: "ValueError: no such state"}
    with RunWriter.open(tmp_path / "x", work.identity) as run:
        assert run.finished_units == {0}
        run.add_unit(work.write_unit(tmp_path / "x", run.run_id, 1))
        run.finish()
    stored = load(tmp_path / "x").manifest
    assert stored.state == "complete"
    assert stored.failed == {}


def test_a_unit_that_raises_leaves_no_part(tmp_path: Path) -> None:
    work = Synthetic()

    def half_a_unit(run_id: str) -> None:
        with UnitWriter(tmp_path / "x", run_id, 0, work.parsed_budgets) as writer:
            writer.add_sequence(0, "doc0", work.token_ids(0), work.paths(0))
            raise RuntimeError("halfway")

    with RunWriter.open(tmp_path / "x", work.identity) as run:
        with pytest.raises(RuntimeError, match="halfway"):
            half_a_unit(run.run_id)
        assert [path for path in (tmp_path / "x").rglob("*") if path.is_file() and path.parent.name in ("tokens", "paths")] == []


def test_a_worker_that_sees_another_run_writes_nothing(tmp_path: Path) -> None:
    work = Synthetic()
    Synthetic(seed=1).write(tmp_path / "x")
    before = bytes_by_part(tmp_path / "x")
    with pytest.raises(ValueError, match="the same for the driver and every worker"):
        work.write_unit(tmp_path / "x", run_id_of(work.identity), 0)
    with pytest.raises(ValueError, match="holds no run"):
        work.write_unit(tmp_path / "nowhere", run_id_of(work.identity), 0)
    assert bytes_by_part(tmp_path / "x") == before


def test_naming_a_unit_costs_the_same_for_the_first_and_the_thousandth(tmp_path: Path) -> None:
    record = UnitRecord(0, 1, 10, dict.fromkeys(("tokens", "paths"), PartRecord(10, 100, "0" * 64)))
    with RunWriter.open(tmp_path / "x", {}) as run:
        start = time.process_time()
        for unit in range(5000):
            run.add_unit(UnitRecord(unit, *list(vars(record).values())[1:]))
        seconds = time.process_time() - start
        assert (tmp_path / "x" / "run.json").stat().st_size < 1000
        run.finish()
    assert len(read_manifest(tmp_path / "x").units) == 5000
    assert seconds < 5  # a manifest rewritten at every unit takes over a minute


def test_finishing_a_complete_run_again_changes_no_unit(tmp_path: Path) -> None:
    run = Synthetic().write(tmp_path / "x")
    with RunWriter.open(run.path, Synthetic().identity) as again:
        assert again.manifest.state == "complete"
        assert len(again.finished_units) == 6
    assert load(run.path).manifest.units == run.manifest.units
