import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duo_oracle.oracle.budgets import ANY, Budget, BudgetKind
from duo_oracle.oracle.patterns import Branch, to_array, to_strings
from duo_oracle.oracle.spaces import SearchSpace, parse_branches
from tests.small_models import all_patterns

budgets = st.one_of(st.just(ANY), st.builds(Budget, st.sampled_from([BudgetKind.EXACT, BudgetKind.ATMOST]), st.integers(0, 5)))


@st.composite
def spaces(draw):
    branches = parse_branches("".join(draw(st.sets(st.sampled_from(".sB"), min_size=1))))
    n_letters = draw(st.integers(1, 5))
    try:
        return SearchSpace(n_letters, branches, draw(budgets))
    except ValueError:
        return SearchSpace(n_letters, branches, ANY)


@given(spaces())
def test_size_iteration_and_membership_agree_with_the_definition(space):
    everything = all_patterns(space.n_letters, tuple(Branch))
    inside = space.contains(everything)
    listed = list(space)
    assert len(listed) == space.size == inside.sum()
    assert to_strings(to_array(listed)) == to_strings(everything[inside])
    assert all(pattern in space for pattern in listed)


@given(spaces(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_samples_stay_in_the_space_and_distinct_ones_differ(space, seed):
    generator = np.random.default_rng(seed)
    assert space.contains(space.sample(50, generator)).all()
    distinct = space.sample_distinct(20, generator)
    assert space.contains(distinct).all()
    assert len(np.unique(distinct, axis=0)) == len(distinct) == min(20, space.size)


def test_samples_are_uniform_over_the_space():
    space = SearchSpace(3, tuple(Branch), Budget(BudgetKind.ATMOST, 1))
    drawn = to_strings(space.sample(20_000, np.random.default_rng(0)))
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == space.size
    expected = 20_000 / space.size
    assert (np.abs(counts - expected) < 5 * expected**0.5).all()


@given(spaces())
@settings(max_examples=30)
def test_neighbours_differ_at_one_layer_or_by_an_exchange_and_stay_in_the_space(space):
    pattern = next(iter(space))
    neighbours = space.neighbours(pattern)
    assert len(set(neighbours)) == len(neighbours)
    for neighbour in neighbours:
        changed = [layer for layer in range(space.n_letters) if neighbour.branches[layer] is not pattern.branches[layer]]
        assert neighbour in space
        assert len(changed) == 1 or (
            len(changed) == 2 and sorted(neighbour.branches[i] for i in changed) == sorted(pattern.branches[i] for i in changed)
        )


@pytest.mark.parametrize("text", ["", "x", "ss", "sBx"])
def test_branches_are_letters_each_once(text):
    with pytest.raises(ValueError, match="branches are any of"):
        parse_branches(text)


def test_a_space_without_patterns_is_refused():
    with pytest.raises(ValueError, match="no pattern of 3 layers"):
        SearchSpace(3, (Branch.SMALL,), Budget(BudgetKind.EXACT, 1))
