"""One declaration per option: the dataclass; default < YAML < command line; every misfit a ValueError of one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.search.cli.command import Command, Work
from duo_oracle.search.cli.options import read_options, spell_parameters


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Options:
    """For tests.

    Args:
        source: where from,
            on two lines
        out: where to
        count: how many, 100% of them
        share: a share
        colour: which
        loud: whether it is said
        tie: whether it is tied
        settings: a setting
        names: some names
    """

    source: str
    out: str
    count: int = 1
    share: float | None = None
    colour: Colour = Colour.RED
    loud: bool = False
    tie: bool = True
    settings: dict[str, str] = field(default_factory=dict, metadata={"flag": "set"})
    names: tuple[str, ...] = ()


COMMAND = Command(
    work=Work.READ, options=Options, run=lambda options: 0, examples=("duo-oracle try x --out y",), positional=("source",)
)


def read(*argv: str) -> Options:
    return read_options("try", COMMAND, "a trial", argv)


def test_defaults_are_the_dataclass_s_own() -> None:
    assert read("x", "--out", "y") == Options("x", "y")


def test_every_kind_of_option_is_read() -> None:
    argv = "x --out y --count 10k --share 0.5 --colour blue --loud --no-tie --set a=1 --set b=c=d --names p --names q".split()
    assert read(*argv) == Options("x", "y", 10_000, 0.5, Colour.BLUE, True, False, {"a": "1", "b": "c=d"}, ("p", "q"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("10_000", 10_000),
        ("3M", 3_000_000),
        ("-2", -2),
        ("64K", 64_000),
        ("1.5M", 1_500_000),
        ("1_0.25B", 10_250_000_000),
    ],
)
def test_whole_numbers_may_be_written_short(text: str, value: int) -> None:
    assert read("x", "--out", "y", "--count", text).count == value


@pytest.mark.parametrize("text", ["1.5", "1.0005k", "k", "1e6", "3 M", "3m", "_3", "0x3", "nan"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--count is a whole number such as 3, 10_000, 64k or 1.5M; got"):
        read("x", "--out", "y", "--count", text)


def test_yaml_lies_between_default_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("source: from_file\nout: there\ncount: 5\ncolour: blue\nloud: true\nset: {a: 1}\nshare: null\n")
    assert read("--config", str(file), "--count", "6") == Options(
        "from_file", "there", 6, None, Colour.BLUE, True, True, {"a": "1"}
    )


@pytest.mark.parametrize(("text", "count"), [("010", 10), ("1_000", 1000), ("64k", 64000), ("'7'", 7)])
def test_a_number_in_yaml_is_what_the_command_line_takes_it_for(text: str, count: int, tmp_path: Path) -> None:
    """YAML 1.1 takes 010 for 8."""
    file = tmp_path / "c.yaml"
    file.write_text(f"source: 007\nout: 2024-01-01\ncount: {text}\n")
    given = read("--config", str(file))
    assert (given.source, given.out, given.count) == ("007", "2024-01-01", count)


@pytest.mark.parametrize(
    "text", ["0x10", "1:30", "0b11", "1e3", "!!int 0x10", f"0x{'f' * 9000}", "2024-01-01", ".inf", "9" * 5000 + ".5"]
)
def test_a_number_that_only_yaml_knows_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"count: {text}\n")
    with pytest.raises(ValueError, match="--count is a whole number"):
        read("x", "--out", "y", "--config", str(file))


def test_help_shows_each_option_with_its_line_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        read("--help")
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for part in (
        "usage: duo-oracle try SOURCE --out OUT",
        "where from, on two lines",
        "100% of them (default 1)",
        "red|blue",
        "--no-tie",
        "--set KEY=VALUE",
    ):
        assert part in shown
    assert "duo-oracle try x --out y" in shown


BAD = {
    "source is required": ["--out", "y"],
    "--out is required": ["x"],
    "did you mean --count": ["x", "--out", "y", "--cuont", "3"],
    "unexpected argument 'z'": ["x", "z", "--out", "y"],
    "--count is a whole number": ["x", "--out", "y", "--count", "3.5"],
    "--share is a number": ["x", "--out", "y", "--share", "half"],
    "did you mean 'blue'": ["x", "--out", "y", "--colour", "bleu"],
    "--set takes KEY=VALUE": ["x", "--out", "y", "--set", "width"],
    "expected one argument": ["x", "--out"],
    "cannot be read as YAML": ["x", "--out", "y", "--config", "nowhere.yaml"],
}


@pytest.mark.parametrize("said", BAD)
def test_a_misfit_is_one_line_that_says_the_law(said: str) -> None:
    with pytest.raises(ValueError) as error:
        read(*BAD[said])
    assert said.lower() in str(error.value).lower()


YAML_BAD = {
    "a mapping of options": "- 1\n",
    "unknown option": "colur: red\n",
    "did you mean 'colour'": "colur: red\n",
    "takes one value": "count: [1, 2]\n",
    "is true or false": "loud: 3\n",
    "cannot be read": "a: [1\n",
    "cannot be read as YAML: ": "{a: 1}: 2\n",
    "--share is a number": f"share: 0x{'f' * 9000}\n",
    "takes one value; got": "count: !!set {1}\n",
}


@pytest.mark.parametrize("said", YAML_BAD)
def test_a_misfit_in_yaml_is_one_line_too(said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(YAML_BAD[said])
    with pytest.raises(ValueError, match=said):
        read("x", "--out", "y", "--config", str(file))


def test_parameters_in_an_error_are_spelled_as_the_command_takes_them() -> None:
    text = "`source` or `settings`, not `loud=True`; search with `keep='losses'` or `seq_len=3`; `not a parameter`"
    assert spell_parameters(text, COMMAND) == (
        "SOURCE or --set, not --loud; search with --keep losses or --seq-len 3; `not a parameter`"
    )
