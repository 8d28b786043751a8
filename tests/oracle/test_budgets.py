import numpy as np
import pytest

from duo_oracle.oracle.budgets import Budget, BudgetKind, parse_budgets


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("any", ["any"]),
        ("4", ["4"]),
        ("0-3", ["0", "1", "2", "3"]),
        ("atmost:4", ["atmost:4"]),
        ("0-1,4,any, atmost:2", ["0", "1", "4", "any", "atmost:2"]),
        ("2,2,1-2", ["2", "1"]),
    ],
)
def test_budgets_are_read_in_their_order_each_once(text, written):
    assert [str(budget) for budget in parse_budgets(text, 6)] == written


@pytest.mark.parametrize("text", ["", "x", "7", "3-1", "atmost:9", "-1", "1.5", "average:3.5", "0-", "4,"])
def test_what_is_no_budget_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match="budget") as error:
        parse_budgets(text, 6)
    assert "\n" not in str(error.value)


def test_a_budget_admits_the_totals_it_names():
    assert np.flatnonzero(Budget(BudgetKind.EXACT, 2).allows(4)).tolist() == [2]
    assert np.flatnonzero(Budget(BudgetKind.ATMOST, 2).allows(4)).tolist() == [0, 1, 2]
    assert Budget(BudgetKind.ANY).allows(4).all()


def test_a_range_names_what_patterns_cost_and_a_number_names_itself():
    costs = (2, 3, 4, 5, 6, 8)
    assert [str(budget) for budget in parse_budgets("5-8,7,atmost:6-7", 2, 4, costs=costs)] == [
        "5",
        "6",
        "8",
        "7",
        "atmost:6",
        "atmost:7",
    ]
    with pytest.raises(ValueError, match="no pattern of these branches costs 0-1; some cost 2, 3, 4, 5, 6, 8"):
        parse_budgets("0-1", 2, 4, costs=costs)
