"""Every token of a text in its place, with the value of the position before it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from duo_oracle.results import Run
from duo_oracle.results.answers.picture import COLUMNS, Colouring, as_text, coloured_tokens, draw_text
from tests.results.synthetic import WORDS, Synthetic

WORK = Synthetic(length=90, documents=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return WORK.write(tmp_path_factory.mktemp("picture") / "x")


def test_a_token_has_the_value_of_the_position_before_it(run: Run) -> None:
    frame = run.paths()
    frame = frame[(frame["sequence"] == 1) & (frame["budget"] == "2")].set_index("position")
    tokens = coloured_tokens(run, 1, "2", "difficulty")
    assert len(tokens) == WORK.length
    assert tokens[0].value is None
    for position, token in enumerate(tokens[1:]):
        assert token.value == pytest.approx(float(frame.loc[position, "difficulty"]), abs=1e-6)


def test_lines_hold_the_text_and_no_more_than_their_columns(run: Run) -> None:
    tokens = coloured_tokens(run, 0, "2", "gain")
    text = "".join(token.text for token in tokens)
    assert text == "".join(WORDS[i] for i in WORK.token_ids(0)).replace("\n", "\u23ce").replace("\t", "\u2192")
    for token, after in pairwise(tokens):
        assert token.column + len(token.text) <= COLUMNS
        same_line = (after.row, after.column) == (token.row, token.column + len(token.text))
        next_line = (after.row, after.column) == (token.row + 1, 0)
        assert same_line or next_line
        assert not (same_line and token.text.endswith("\u23ce"))


def test_a_line_breaks_no_word(run: Run) -> None:
    for sequence in (0, 1):
        tokens = coloured_tokens(run, sequence, "2", "gain", columns=20)
        for token, after in pairwise(tokens):
            if after.row > token.row and not token.text.endswith("\u23ce"):
                assert token.text[-1:].isspace() or after.text[:1].isspace() or after.column == 0
                begins = [one for one in tokens if one.row == after.row and one.column == 0]
                assert begins[0].text[:1].isspace() or token.text[-1:].isspace()


def test_the_scale_of_colours_ends_where_the_values_do() -> None:
    mostly_up = Colouring.of([None, -0.5, 0.0, 1.0, 2.0])
    assert (mostly_up.norm.vmin, mostly_up.norm.vmax) == pytest.approx((-0.5, 1.97), abs=0.05)
    white, _ = mostly_up.at(0.0)
    assert white[:3] == pytest.approx((1, 1, 1), abs=0.02)  # no difference has no colour, wherever it lies on the scale
    up, down = mostly_up.at(0.4)[0], mostly_up.at(-0.4)[0]
    assert up[0] > up[2]
    assert down[2] > down[0]
    assert Colouring.of([0.0, 1.0]).norm.vmin == 0
    assert Colouring.of([None]).at(0.0)[0][:3] == pytest.approx((1, 1, 1), abs=0.02)


def test_a_piece_of_a_sequence_keeps_its_values(run: Run) -> None:
    whole = coloured_tokens(run, 0, "2", "loss")
    piece = coloured_tokens(run, 0, "2", "loss", start=10, length=5)
    assert [(token.text, token.value) for token in piece] == [(token.text, token.value) for token in whole[10:15]]


def test_the_text_form_marks_the_greatest_with_the_last_sign(run: Run) -> None:
    tokens = coloured_tokens(run, 0, "2", "loss_cheapest")
    greatest = max(tokens, key=lambda token: token.value or 0)
    lines = as_text(run, 0, "2", "loss_cheapest").splitlines()
    marked = lines[2 * greatest.row + 1][greatest.column :][: len(greatest.text)]
    assert marked == "@" * len(greatest.text)
    assert lines[2 * greatest.row][greatest.column :].startswith(greatest.text.rstrip())
    assert "up to" in lines[-1]


def test_equal_runs_give_equal_pictures(run: Run, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "c.png", "new/folder/d.svg"):
        draw_text(run, sequence=1, budget="2", length=30).save(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_there_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sequence 9"):
        as_text(run, 9)
    with pytest.raises(ValueError, match="tokens 0 to 89"):
        as_text(run, 0, start=90)
    with pytest.raises(ValueError, match="unknown measure"):
        as_text(run, 0, measure="colour")
    with pytest.raises(ValueError, match=r"\.svg, \.png or \.pdf"):
        draw_text(run).save(tmp_path / "a.txt")
