"""What a strategy of your own is held to: import the contract in your tests, subclass it, and pytest runs its laws.

import pytest
from duo_oracle.search.testing import StrategyContract

@pytest.mark.parametrize("name", ["annealing"])  # the file in the folder, or the entry point
class TestAnnealing(StrategyContract):
    few = {"annealing": {"steps": "12"}}
"""

from duo_oracle.search.testing.strategies import StrategyContract
from duo_oracle.search.testing.tables import TableScorer

__all__ = ["StrategyContract", "TableScorer"]
