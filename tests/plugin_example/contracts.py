"""What the package brings passes the contracts that duo-oracle ships. Run by pytest where both are installed."""

import pytest

from duo_oracle.models.testing import FamilyContract, RouterContract
from duo_oracle.search.testing import StrategyContract


@pytest.mark.parametrize("name", ["backwards"])
class TestBackwards(StrategyContract):
    pass


@pytest.mark.parametrize("name", ["every"])
class TestEvery(RouterContract):
    forms = {"every": ("every:1", "every:3")}  # noqa: RUF012


@pytest.mark.parametrize("name", ["mirrored_toy"])
class TestMirroredToy(FamilyContract):
    pass
