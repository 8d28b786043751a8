from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duo_oracle.oracle.layers import format_layers, parse_layers


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ((0,), "0"),
        ((3, 4), "3-4"),
        ((18, 19, 20, 21, 22, 23, 24, 25, 26, 27), "18-27"),
        ((18, 19, 20, 29), "18-20,29"),
        ((3, 5, 8, 9, 10, 11), "3,5,8-11"),
        (tuple(range(30)), "0-29"),
    ],
)
def test_neighbours_are_written_as_ranges(layers, text):
    assert format_layers(layers) == text
    assert parse_layers(text, 30) == layers


@given(st.sets(st.integers(0, 59), min_size=1))
def test_what_is_written_is_read_as_the_same_layers(layers):
    rising = tuple(sorted(layers))
    assert parse_layers(format_layers(rising), 60) == rising


@pytest.mark.parametrize(("text", "layers"), [("7-7", (7,)), (" 3, 5-6 ", (3, 5, 6)), ("3,4,5", (3, 4, 5)), ("08-09", (8, 9))])
def test_other_ways_of_writing_the_same_are_read(text, layers):
    assert parse_layers(text, 30) == layers


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "3,", "x", "3-", "-3", "3--5", "1.5", "3 5", "3:5", "\u0663"),
        *("30", "28-31", "0-999999999", "9" * 5000),
        *("5-3", "3,3", "3-5,5", "5,3", "8-11,3"),
    ],
)
def test_what_is_malformed_repeated_falling_or_no_layer_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="route-layers are numbers of the model's 30 layers, 0 to 29") as error:
        parse_layers(text, 30)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(f"such as 18-27 or 3,5,8-11; got {text!r}")
