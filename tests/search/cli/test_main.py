"""Exit statuses, and what goes to stdout and stderr."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from duo_oracle.models.families.toy import write_toy
from duo_oracle.search.cli import command_module, command_names, main
from duo_oracle.search.cli.options import read_options
from duo_oracle.search.job import driver
from duo_oracle.search.job.config import SearchConfig
from duo_oracle.search.job.driver import run_search
from tests.search import fakes

ROOT = Path(__file__).resolve().parents[3]
Asks = Callable[..., SearchConfig]


@pytest.fixture
def argv(toy: Path, tokens: Path, tmp_path: Path) -> list[str]:
    return ["search", str(toy), str(tokens), "--local", "--unit-sequences", "1", "--out", str(tmp_path / "run")]


@pytest.mark.parametrize("command", [(), *((name,) for name in command_names())])
def test_every_command_has_help_with_examples_that_are_its_own(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(" ".join(["usage: duo-oracle", *command]))
    assert " ".join(["\n  duo-oracle", *command]) in out
    assert err == ""


def test_every_example_is_a_command_line_that_is_understood() -> None:
    for name in command_names():
        for example in command_module(name).COMMAND.examples:
            program, used, *words = shlex.split(example.partition(" > ")[0])
            assert program == "duo-oracle"
            if "--config" not in words:
                read_options(used, command_module(used).COMMAND, "", words)


def test_help_comes_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from duo_oracle.search.cli import main; main(['--help']); main(['search', '--help']);"
        "print([name for name in 'torch ray pandas pyarrow duckdb optuna'.split() if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_stdout_holds_the_result_and_stderr_nothing_where_it_is_no_terminal(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "oracle" in out
    assert err == ""


def test_progress_on_a_terminal_shows_rate_and_time_left(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(argv) == 0
    assert "tok/s" in terminal.getvalue()
    assert "<" in terminal.getvalue()


def test_the_same_command_again_says_the_same(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert main(argv) == 0
    assert capsys.readouterr().out == first


def test_a_failed_unit_gives_1_and_is_named(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "run_search", partial(run_search, solve=fakes.fails_on_sequence_2))
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert "unit 2 (sequence 2, of book 1): ArithmeticError: sequence 2 is one too many" in err
    assert "the same command tries them again" in err
    assert out == ""


def test_an_interrupt_gives_130_and_says_how_to_go_on(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "run_search", partial(run_search, solve=fakes.is_interrupted))
    assert main(argv) == 130
    assert capsys.readouterr().err == "duo-oracle: interrupted; the same command resumes from here\n"


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError("y"), ValueError("z")])
def test_a_fault_of_ours_gives_1_with_its_traceback(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def faulty(config: SearchConfig) -> None:
        raise error

    monkeypatch.setattr(driver, "run_search", faulty)
    assert main(argv) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_library_s_valueerror_is_a_fault_of_ours(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "run_search", lambda config: json.loads("{"))
    assert main(argv) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_fault(argv: list[str]) -> None:
    assert main(argv) == 0
    command = f"'{sys.executable}' -m duo_oracle query '{argv[-1]}' 'SELECT * FROM paths' --format csv | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("run,sequence,position")
    assert done.stderr == ""


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("0")


def test_data_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Documents by name, a title of a query, an error line: the ways of a text of the data to a terminal."""
    hostile = "\x1b[2J\x9b31m\u202e\a\rname"
    data, out = tmp_path / "data.jsonl", tmp_path / "run"
    data.write_text(json.dumps({"document": hostile, "tokens": [1, 2, 3, 4, 5]}) + "\n")
    model = tmp_path / "toy"
    write_toy(model, seed=3, n_letters=4, n_vocabulary=16, n_positions=12, interaction=1.0)
    assert main(["search", str(model), str(data), "--local", "--out", str(out)]) == 0
    assert main(["difficulty", str(out), "--group", "document"]) == 0
    assert main(["difficulty", str(out)]) == 0
    assert main(["query", str(out), f'SELECT document AS "{hostile}" FROM tokens']) == 0
    assert main(["query", str(out), f'SELECT document AS "{hostile}" FROM tokens', "--format", "json"]) == 0
    assert main(["query", str(out), f"SELECT error('{hostile}')"]) == 2
    assert main(["difficulty", str(tmp_path / hostile)]) == 2
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "name" in text
        assert [c for c in text if c != "\n" and not c.isprintable()] == []
