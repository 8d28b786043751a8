"""Branch tables: how they are written, what is refused, and that the order of ties is by cost, then the table's."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import Branch, parse_table
from duo_oracle.oracle.budgets import parse_budgets
from duo_oracle.oracle.engine.choice import _tie_key
from duo_oracle.oracle.patterns import RoutingPattern, tie_order, to_strings
from duo_oracle.oracle.spaces import SearchSpace

TABLES = (".sB", "sB", "top:0,1,2,4", "ranks:1+2,1+3,2,3", "sets:3,0+1,2", "top:1,2,4,10")


@pytest.mark.parametrize("spec", TABLES)
def test_ties_go_by_cost_and_then_by_the_order_of_the_table(spec: str) -> None:
    table = parse_table(spec)
    patterns_PL = np.array(list(product(table.branches, repeat=3)), dtype=np.uint8)[::-1]
    place = {branch.letter: place for place, branch in enumerate(table.branches)}
    cost = {branch.letter: branch.cost for branch in table.branches}
    texts = to_strings(patterns_PL, table.letters)
    wanted = sorted(texts, key=lambda text: (sum(cost[letter] for letter in text), [place[letter] for letter in text]))
    assert [texts[row] for row in tie_order(patterns_PL, table.branches)] == wanted
    by_key = sorted(range(len(texts)), key=lambda row: _tie_key(patterns_PL[row], table.branches))
    assert [texts[row] for row in by_key] == wanted


@pytest.mark.parametrize("spec", TABLES)
def test_a_pattern_is_read_as_it_is_written_and_a_table_outlives_a_process(spec: str) -> None:
    table = parse_table(spec)
    again = pickle.loads(pickle.dumps(table))
    assert parse_table(table.spec) == table == again
    assert [(b.letter, b.cost) for b in again.branches] == [(b.letter, b.cost) for b in table.branches]
    for branches in product(table.branches, repeat=2):
        text = str(RoutingPattern(branches))
        assert str(RoutingPattern.parse(text, 2, table)) == text
        assert RoutingPattern.parse(text, 2, table).cost == sum(branch.cost for branch in branches)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "any of the letters"),
        ("sBB", "each once"),
        ("sBx", "any of the letters"),
        ("top:", "numbers of experts"),
        ("top", "top:K,K"),
        ("top:1,1", "once"),
        ("top:1,36", "from 0 to 35"),
        ("top:-1", "numbers of experts"),
        ("ranks:0+1", "counted from 1"),
        ("ranks:1+1", "each once in a set"),
        ("ranks:1+2,2+1", "once"),
        ("sets:1++2", "counted from 0"),
        ("sets:0,9999", "counted from 0"),
        ("best:1,2", "top:K,K"),
    ],
)
def test_a_wrong_table_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(InputError) as found:
        parse_table(spec)
    assert words in str(found.value)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("spec", TABLES)
@pytest.mark.parametrize("budget", ["any", "3", "atmost:3"])
def test_a_space_is_the_patterns_whose_cost_the_budget_admits(spec: str, budget: str) -> None:
    table = parse_table(spec)
    allowed = parse_budgets(budget, 3, max(1, table.dearest))[0]
    space = SearchSpace(3, table.branches, allowed)
    every_PL = np.array(list(product(table.branches, repeat=3)), dtype=np.uint8)
    cost_P = np.array([sum(branch.cost for branch in branches) for branches in product(table.branches, repeat=3)])
    admitted_P = {"any": cost_P >= 0, "3": cost_P == 3, "atmost:3": cost_P <= 3}[budget]
    assert np.array_equal(space.contains(every_PL), admitted_P)
    assert space.size == admitted_P.sum()
    assert {pattern.branches for pattern in space} == {tuple(row) for row in every_PL[admitted_P].tolist()}
    n = 200 * space.size
    drawn_PL, counts = np.unique(space.sample(n, np.random.default_rng(0)), axis=0, return_counts=True)
    assert space.contains(drawn_PL).all()
    assert len(drawn_PL) == space.size
    assert abs(counts - 200).max() < 6 * 200**0.5
    assert len(np.unique(space.sample_distinct(space.size, np.random.default_rng(1)), axis=0)) == space.size


def test_the_branches_of_a_duo_llm_are_what_they_were() -> None:
    assert [int(b) for b in parse_table(".sB").branches] == [Branch.SKIP, Branch.SMALL, Branch.BIG] == [0, 1, 2]
    assert [b.cost for b in parse_table("Bs.").branches] == [0, 0, 1]


def test_a_gate_is_of_experts_and_one_of_two() -> None:
    assert parse_table("top:1,2", "renormalised") != parse_table("top:1,2") == parse_table("top:1,2", "own")
    with pytest.raises(InputError, match="of a mixture; got `branches='sB'`"):
        parse_table("sB", "renormalised")
    with pytest.raises(InputError, match="did you mean 'renormalised'"):
        parse_table("top:1,2", "renormalized")
