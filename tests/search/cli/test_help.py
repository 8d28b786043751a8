"""The help: commands and options in groups, old spellings taken and not shown, completion for three shells."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from duo_oracle.search.api.options import options_of
from duo_oracle.search.cli import command_module, command_names, main
from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.cli.options import build_parser, read_options


@dataclass(frozen=True)
class Options:
    """For tests.

    Args:
        out: where to
        # what is counted
        count: how many
        # how it is said
        loud: whether it is said,
            on two lines
    """

    out: str
    count: int = field(default=1, metadata={"aliases": ("number", "how_many")})
    loud: bool = field(default=False, metadata={"aliases": ("noisy",)})


COMMAND = Command(work=Work.READ, options=Options, run=lambda options: 0, examples=())


def test_alone_it_prints_the_help_in_groups_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    headings = [f"\n{work}:\n" for work in Work]
    assert [alone.count(heading) for heading in headings] == [1] * len(headings)
    assert sorted(headings, key=alone.index) == headings
    for name in command_names():
        assert alone.count(f"\n  {name} ") == 1


def test_options_stand_in_their_groups() -> None:
    groups = {
        group.title: [action.dest for action in group._group_actions] for group in build_parser("try", COMMAND, "")._action_groups
    }
    assert (groups["what is counted"][0], groups["how it is said"][0]) == ("count", "loud")
    assert groups["options"] == ["help", "out", "config"]


def test_search_has_the_groups_of_its_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--help"]) == 0
    shown = capsys.readouterr().out
    titles = ("what is searched", "context and budget", "selection bias", "data", "machine", "output", "settings of a strategy")
    places = [shown.index(f"\n{title}") for title in titles]
    assert places == sorted(places)


@pytest.mark.parametrize("spelling", ["--count", "--number", "--how-many"])
def test_an_old_spelling_is_taken_and_not_shown(spelling: str, tmp_path: Path) -> None:
    assert read_options("try", COMMAND, "", ["--out", "x", spelling, "3"]).count == 3
    assert read_options("try", COMMAND, "", ["--out", "x", "--noisy"]).loud
    file = tmp_path / "c.yaml"
    file.write_text(f"out: x\n{spelling.removeprefix('--')}: 4\n")
    assert read_options("try", COMMAND, "", ["--config", str(file)]).count == 4
    assert options_of(Options, {"out": "x", spelling.removeprefix("--").replace("-", "_"): 5}).count == 5
    shown = build_parser("try", COMMAND, "").format_help()
    assert "--count" in shown
    assert "number" not in shown
    assert "noisy" not in shown


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_help_keeps_to_the_terminal(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("duo_oracle.oracle.base.terminal.sys.stdout.isatty", lambda: True, raising=False)
    assert main([]) == 0
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if not line.startswith(("usage", "The oracle", "  duo-oracle", "duo-"))
    ]
    assert max(map(len, lines)) <= min(columns, 120)


SYNTAX: dict[str, list[str]] = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", SYNTAX)
def test_completion_names_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name in command_names():
        assert name in script
    for action in build_parser("search", command_module("search").COMMAND, "")._actions:
        for flag in action.option_strings:
            assert flag.lstrip("-") in script
    if shutil.which(shell):
        file = tmp_path / "completion"
        file.write_text(script)
        subprocess.run([*SYNTAX[shell], str(file)], check=True)


def completes(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    line = " ".join(words)
    complete = f'$(complete -p duo-oracle | grep -o "_shtab[a-z_]*") duo-oracle "{words[-1]}" "{words[-2]}"'
    code = f'source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; {complete}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    assert completes(script, "duo-oracle", "diff") == ["difficulty"]
    assert "--keep" in completes(script, "duo-oracle", "search", "--ke")
    assert sorted(completes(script, "duo-oracle", "search", "--keep", "''")) == ["losses", "none", "trials"]


def test_a_shell_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err
