"""`--format`: one set of forms on every command that reads, the same figures in each, nothing binary on a terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duo_oracle.oracle.base.terminal import fitted
from duo_oracle.results import load
from duo_oracle.results.answers.difficulty import table
from duo_oracle.results.formats import as_text, of_rows, write
from duo_oracle.search.cli import command_module, command_names, main
from duo_oracle.search.cli.answer import Format
from duo_oracle.search.cli.command import Work
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search

LINES = [
    "curve RUN",
    "difficulty RUN --top 3",
    "difficulty RUN --group document --within-surprise",
    "landscape RUN",
    "pareto RUN",
    "verify RUN --sample 4",
    "controls RUN --no-calibration",
    "query RUN layer_use",
    "query --list",
    "query --schema",
    "runs RUN",
    "runs show RUN",
    "compare RUN --router random:1",
    "strategies RUN --strategy greedy --budget any",
]


@pytest.fixture(scope="module")
def run(duo: Path, duo_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("format") / "run"
    options = {"context": "full", "budget": "0-2,any", "keep": "losses", "null_draws": 1, "local": True}
    run_search(SearchConfig(model=str(duo), data=str(duo_tokens), out=str(directory), **options))
    return directory


def test_every_command_that_reads_has_every_form() -> None:
    answers = set()
    for name in command_names():
        command = command_module(name).COMMAND
        if command.work in (Work.READ, Work.COMPARE) and name not in ("report", "route"):
            assert command.options.__dataclass_fields__["format"].default is Format.TABLE, name
            answers.add(name)
    assert answers >= {line.split()[0] for line in LINES}


@pytest.mark.parametrize("line", LINES)
def test_all_forms_of_an_answer_hold_the_same_rows(line: str, run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def said(form: str) -> bytes:
        capsysbinary.readouterr()
        assert main([*line.replace("RUN", str(run)).split(), "--format", form]) == 0
        return capsysbinary.readouterr().out

    rows = list(csv.DictReader(io.StringIO(said("csv").decode())))
    table = pq.read_table(io.BytesIO(said("parquet")))
    assert table.column_names == list(rows[0])
    assert table.num_rows == len(rows) > 0
    loaded = json.loads(said("json"))
    if not line.startswith("controls"):  # its JSON has a list for each section
        assert [set(row) for row in loaded] == [set(table.column_names)] * len(rows)
    markdown = said("markdown").decode().splitlines()
    if line.startswith("curve"):
        assert sum(text.startswith("| ") for text in markdown) == len(rows) + 1
    else:
        assert len(markdown) == len(rows) + 2
        assert set(markdown[1]) <= set("|-:")
    assert said("table").strip()


@pytest.mark.parametrize("line", LINES)
def test_parquet_is_never_written_to_a_terminal(
    line: str, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    argv = [*line.replace("RUN", str(run)).split(), "--format", "parquet"]

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    raw = Terminal()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw))
    assert main(argv) == 2
    assert raw.getvalue() == b""
    assert "not for a terminal" in capsys.readouterr().err


WIDE = pa.table({"n": [1, 20], "text": ["word " * 30, "x"], "name": ["a" * 40, "b"], "loss": [0.5, 1.0]})


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_a_wide_table_keeps_to_the_terminal_and_says_what_it_left_out(width: int) -> None:
    text = as_text(WIDE, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" in text or "left out" in text
    assert "csv" in text
    assert text.splitlines()[0].split()[0] == "n"


def test_a_table_that_fits_is_left_whole() -> None:
    assert as_text(WIDE, 400) == as_text(WIDE)
    assert "left out: loss" in " ".join(as_text(WIDE, 24).split())


def test_a_terminal_s_width_is_taken_and_a_file_s_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "50")
    terminal, file = Terminal(), io.BytesIO()
    write(WIDE, "table", terminal)
    write(WIDE, "table", file)
    assert max(map(len, terminal.getvalue().decode().splitlines())) <= 50
    assert max(map(len, file.getvalue().decode().splitlines())) > 150


def test_a_text_keeps_to_the_terminal_too() -> None:
    text = "a sentence that is longer than the terminal is wide\n  a    b\n  1.0  another long cell of a table that is cut\n"
    folded = fitted(text, 24).splitlines()
    assert max(map(len, folded)) <= 24
    assert folded[:4] == ["a sentence that is", "longer than the terminal", "is wide", "  a    b"]
    assert folded[4] == "  1.0  another long cel…"
    assert "--format csv" in " ".join(folded)
    assert fitted(text, 200) == text.rstrip()


def test_the_marked_token_stays_in_sight(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide, narrow = (table(load(run), 3, width=width) for width in (None, 90))
    assert max(map(len, narrow.splitlines()[1:])) <= 90 < max(map(len, wide.splitlines()[1:]))
    marked = [line[line.index("[") : line.index("]") + 1] for line in wide.splitlines()[2:]]
    assert [line[line.index("[") : line.index("]") + 1] for line in narrow.splitlines()[2:]] == marked


def test_rows_of_differing_names_and_types_are_a_table() -> None:
    table = of_rows([{"a": 1, "b": "x"}, {"a": "y", "c": 0.5}])
    assert table.to_pylist() == [{"a": "1", "b": "x", "c": None}, {"a": "y", "b": None, "c": 0.5}]
    stream = io.BytesIO()
    write(pa.table({"a|b": [1], "c": ["x|y\n"]}), "markdown", stream)
    assert stream.getvalue().decode().splitlines() == [
        "| a\\|b | c |",
        "|---:|---|",
        "| 1 | x\\|y\\n |",
    ]
