"""Faults of disks, files and places through the command line: one line, a status, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from duo_oracle.oracle.base.remote import Remote
from duo_oracle.search.cli import main
from duo_oracle.search.cli.faults import fault_of_surroundings
from duo_oracle.search.job import driver
from duo_oracle.search.job.driver import run_search
from tests.search import fakes
from tests.search.conftest import assert_same_tables, tables_of


@pytest.fixture
def argv(toy: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "run_search", partial(run_search, solve=fakes.solves))
    return ["search", str(toy), str(tokens), "--local", "--unit-sequences", "1", "--out", str(tmp_path / "run")]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    return err


PLACES = ("model", "data", "out", "run", "routes", "routes=", "config")
SCHEMES = ("hf", "https", "memory", "abfs+x")


@pytest.mark.parametrize(
    ("place", "scheme"),
    [*((place, scheme) for place in PLACES for scheme in ("ftp", "file")), *(("out", scheme) for scheme in SCHEMES)],
)
def test_a_uri_of_no_store_and_of_one_that_cannot_hold_it_is_refused_at_once(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str, scheme: str
) -> None:
    uri = f"{scheme}://bucket/thing"
    lines = {
        "model": ["search", uri, *argv[2:]],
        "data": ["search", argv[1], uri, *argv[3:]],
        "out": [*argv[:-1], uri],
        "run": ["query", uri, "SELECT 1"],
        "routes": ["query", "run", "SELECT 1", "--routes", uri],
        "routes=": ["query", "run", "SELECT 1", "--routes", f"mine={uri}"],
        "config": ["search", "--config", uri],
    }
    assert main(lines[place]) == 2
    assert uri in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["report", "run", "--out"],
        ["curve", "run", "--plot"],
        ["difficulty", "run", "--picture"],
        ["compare", "run", "--out"],
        ["route", "duo-tiny", "fixed:ssssssssssss", "holdout:prose", "--out"],
        ["export-reference", "duo-tiny", "holdout:prose", "--out"],
        ["train", "holdout:prose", "--out"],
        ["train-router", "duo-tiny", "holdout:prose", "--router", "budget", "--budget", "2", "--out"],
        ["duo", "duo-tiny", "holdout:prose", "--out"],
        ["placebo", "duo-tiny", "--out"],
        ["reproduce", "duo-tiny", "--out"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("uri", ["s3://bucket/thing.svg", "gs://bucket/thing.parquet", "memory://a/thing.html"])
def test_what_is_only_written_on_this_machine_says_so_of_a_store(
    words: list[str], uri: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, uri]) == 2
    said = one_line(capsys)
    assert f"{words[-1]} is a path of this machine" in said
    assert uri in said
    assert list(tmp_path.iterdir()) == []


def test_options_routes_and_strategies_are_read_from_a_store(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not the text of the place is looked for on this machine, but what lies there."""
    pytest.importorskip("fsspec")
    place = Remote(f"memory://{tmp_path.name}/inputs")
    place.put("search.yaml", b"max_sequences: 2\nnull_draws: 0\n")
    assert main([*argv, "--config", f"{place.uri}/search.yaml"]) == 0
    capsys.readouterr()
    for name in ("routes.parquet", "strategies.json"):
        place.put(name, b"nothing of the kind")
    for words in (
        ["query", argv[-1], "SELECT 1", "--routes", f"{place.uri}/routes.parquet"],
        ["query", argv[-1], "SELECT 1", "--routes", f"mine={place.uri}/routes.parquet"],
        ["report", argv[-1], "--routes", f"mine={place.uri}/routes.parquet", "--out", "report.html"],
        ["report", argv[-1], "--strategies", f"{place.uri}/strategies.json", "--out", "report.html"],
        [*argv[:-1], "other", "--reference", f"{place.uri}/routes.parquet"],
    ):
        assert main(words) == 2
        assert re.search(r"routes.parquet.*Parquet|strategies.json is not JSON", one_line(capsys))
    assert main([*argv[:-1], "other", "--reference", f"{place.uri}/none.parquet"]) == 2
    assert f"there is nothing at {place.uri}/none.parquet" in one_line(capsys)


def test_a_uri_that_lacks_a_slash_is_answered_by_the_right_one(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*argv[:-1], "s3:/bucket/run"]) == 2
    assert "did you mean s3://bucket/run?" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_begins_as_a_uri_is_a_folder(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arrow took it for a bucket, once all was searched."""
    assert main([*argv[:-1], "s3:run"]) == 0
    assert main(["query", "s3:run", "SELECT count(*) AS n FROM tokens"]) == 0


@pytest.mark.parametrize("out", ["", "a\udcffb"], ids=["empty", "bytes"])
def test_a_place_that_no_run_can_have_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, out: str
) -> None:
    assert main([*argv[:-1], out]) == 2
    assert repr(out)[1:-1] in one_line(capsys)
    assert main(["query", out, "SELECT 1"]) == 2
    assert main(["search", out, *argv[2:]]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run.json", "units.jsonl", ".lock", "paths", "paths/part-00000.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "file"])
def test_what_stands_in_the_place_of_a_run_s_own_file_is_said_and_left_alone(
    argv: list[str], capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    """A pipe was waited for, and a folder in the place of a part ended its unit in a traceback."""
    assert main(argv) == 0
    place = Path(argv[-1], name)
    if (kind == "folder") == (name == "paths"):
        return
    if kind == "file" and name != "paths":
        return  # it is one
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "folder": os.mkdir, "file": Path.touch}[kind](place)
    capsys.readouterr()
    assert main(argv) == 2
    assert name in one_line(capsys)
    status = main(["query", argv[-1], "SELECT count(*) FROM paths"])
    said = capsys.readouterr().err
    assert (status, len(said.splitlines())) == ((0, 0) if name == ".lock" else (2, 1)), said


def test_a_file_uri_is_its_path(argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["search", Path(argv[1]).as_uri(), Path(argv[2]).as_uri(), *argv[3:-1], (tmp_path / "my run").as_uri()]
    assert main(words) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["my run"]
    assert main(["query", (tmp_path / "my run").as_uri(), "SELECT count(*) AS n FROM tokens", "--format", "csv"]) == 0
    assert int(capsys.readouterr().out.split()[-1]) > 0


@pytest.mark.parametrize(("number", "nth"), [(errno.ENOSPC, 1), (errno.EDQUOT, 2), (errno.EIO, 3), (errno.EROFS, 7)])
def test_a_disk_that_takes_no_more_stops_the_search_and_the_same_command_resumes(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, nth: int
) -> None:
    n_calls = 0

    def full(descriptor: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls >= nth:
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert main(argv) == 1
    assert "same command resumes" in one_line(capsys)
    left = [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [name for name in left if ".tmp" in name]
    assert main(argv) == 0
    whole = [*argv[:-1], str(tmp_path / "whole")]
    assert main(whole) == 0
    assert_same_tables(tables_of(tmp_path / "run"), tables_of(tmp_path / "whole"))


def test_verify_repairs_what_a_disk_has_damaged(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # losses that the model itself gives again
    assert main(argv) == 0
    before = tables_of(tmp_path / "run")
    part = tmp_path / "run" / "paths" / "part-00003.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert main(["query", str(tmp_path / "run"), "SELECT 1"]) == 2
    assert "part-00003.parquet is not the part that the run wrote" in one_line(capsys)
    assert main(["verify", str(tmp_path / "run")]) == 2
    assert main(["verify", str(tmp_path / "run"), "--repair"]) == 0
    assert_same_tables(tables_of(tmp_path / "run"), before)


def test_units_cut_by_hand_are_searched_again(argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(argv) == 0
    before = tables_of(tmp_path / "run")
    values = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**values, "units": values["units"][:4]}))
    capsys.readouterr()
    assert main(["query", str(tmp_path / "run"), "SELECT 1"]) == 0
    assert "says complete and names" in capsys.readouterr().err
    assert main(argv) == 0
    assert_same_tables(tables_of(tmp_path / "run"), before)


def test_a_damaged_line_of_the_journal_is_said_and_searched_again(
    argv: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(argv) == 0
    values = json.loads((tmp_path / "run" / "run.json").read_text())
    lines = [json.dumps(unit).encode() for unit in values["units"]]
    lines[2] = bytes(len(lines[2]))
    (tmp_path / "run" / "run.json").write_text(json.dumps({**values, "units": [], "state": "running"}))
    (tmp_path / "run" / "units.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    before = capsys.readouterr() and tables_of_whole(argv, tmp_path)
    capsys.readouterr()
    assert main(["query", str(tmp_path / "run"), "SELECT 1"]) == 0
    assert "units.jsonl: line 3 cannot be read" in capsys.readouterr().err
    assert main(argv) == 0
    assert "line 3 cannot be read" in capsys.readouterr().err
    assert_same_tables(tables_of(tmp_path / "run"), before)


def tables_of_whole(argv: list[str], tmp_path: Path) -> dict:
    assert main([*argv[:-1], str(tmp_path / "whole")]) == 0
    return tables_of(tmp_path / "whole")


FAULTS: list[tuple[Exception, int]] = [
    (OSError(28, "No space left on device"), 1),
    (RuntimeError("I/O error: No space left on device (os error 28)"), 1),
    (OSError("[Errno 5] Error reading bytes from file. Detail: [errno 5] Input/output error"), 1),
    (MemoryError(), 1),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        1,
    ),
    (RuntimeError("can't start new thread"), 1),
    (OSError("Failed to launch worker thread: Resource temporarily unavailable"), 1),
    (BlockingIOError(11, "Resource temporarily unavailable"), 1),
    (PermissionError(13, "Permission denied", "/root/x"), 2),
    (IsADirectoryError(21, "Is a directory", "x"), 2),
]


@pytest.mark.parametrize(("error", "status"), FAULTS)
def test_what_the_program_is_not_to_blame_for_is_a_line(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(driver, "run_search", faulty)
    assert main(argv) == status
    assert "Traceback" not in one_line(capsys)
    assert fault_of_surroundings(KeyError("x")) is None
