import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duo_oracle.oracle.patterns import Branch, RoutingPattern, branch_counts, tie_order, to_array, to_strings

texts = st.text(alphabet=".sB", min_size=1, max_size=40)


@given(texts)
def test_str_and_parse_are_inverse(text):
    assert str(RoutingPattern.parse(text)) == text


@given(st.lists(st.text(alphabet=".sB", min_size=5, max_size=5), min_size=1, max_size=20))
def test_array_form_and_strings_are_inverse(written):
    assert to_strings(to_array(RoutingPattern.parse(text) for text in written)) == written


@given(texts)
def test_branch_counts_add_up_to_the_layers(text):
    pattern = RoutingPattern.parse(text)
    assert pattern.n_big + pattern.n_small + pattern.n_skip == pattern.n_letters == len(text)
    assert branch_counts(to_array([pattern]), Branch.BIG)[0] == text.count("B")


def test_ties_prefer_fewer_big_then_the_string_in_the_order_skip_small_big():
    written = ["sB", "Bs", "BB", "..", ".s", "s.", ".B", "ss"]
    order = tie_order(to_array(RoutingPattern.parse(text) for text in written))
    assert [written[i] for i in order] == ["..", ".s", "s.", "ss", ".B", "sB", "Bs", "BB"]


def test_uniform_takes_one_branch_everywhere():
    assert str(RoutingPattern.uniform(Branch.SKIP, 3)) == "..."


@pytest.mark.parametrize(("text", "n_letters"), [("", None), ("Bx", None), ("bS", None), ("Bs", 3)])
def test_what_is_no_pattern_is_refused_with_its_text(text, n_letters):
    with pytest.raises(ValueError, match="routing pattern") as error:
        RoutingPattern.parse(text, n_letters)
    assert repr(text) in str(error.value)


def test_patterns_are_hashable_and_frozen():
    pattern = RoutingPattern.parse("Bs.")
    assert {pattern: 1}[RoutingPattern.parse("Bs.")] == 1
    assert to_array([pattern]).dtype == np.uint8
