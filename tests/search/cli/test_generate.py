"""`duo-oracle generate`: text, or a row for every token."""

from __future__ import annotations

import json

import pytest

from duo_oracle.search.cli import main

ASKED = ["generate", "duo-tiny", "The old captain", "--router", "random:4", "--tokens", "6"]


def test_text_comes_behind_its_prompt_and_what_it_cost_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(ASKED) == 0
    said = capfd.readouterr()
    assert said.out.startswith("The old captain")
    assert len(said.out) > 20
    assert "6 tokens under random:4: 4.00 of 12 layers big" in said.err


def test_a_row_for_every_token_joins_to_the_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(ASKED) == 0
    text = capfdbinary.readouterr().out.decode().rstrip("\n")
    assert main([*ASKED, "--format", "json"]) == 0
    rows = json.loads(capfdbinary.readouterr().out)
    assert "The old captain" + "".join(row["token"] for row in rows) == text
    assert all(row["pattern"].count("B") == 4 and 0 < row["probability"] < 1 for row in rows)


@pytest.mark.parametrize(
    ("given", "law"),
    [
        (["--tokens", "256"], "--tokens must be 1 to 255"),
        (["--router", "fixed:BB"], "this model has 12"),
        (["--temperature", "-1"], "at least 0"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line(given: list[str], law: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, *given]) == 2
    said = capsys.readouterr().err
    assert law in said
    assert said.count("\n") == 1
