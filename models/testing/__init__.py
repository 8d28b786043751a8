"""What a family or a router of your own is held to: subclass a contract in your tests, and pytest runs its laws.

import pytest
from duo_oracle.models.testing import FamilyContract, RouterContract

@pytest.mark.parametrize("name", ["my_llama"])  # the file in the folder, or the entry point
class TestMyLlama(FamilyContract): ...

@pytest.mark.parametrize("name", ["every_other"])
class TestEveryOther(RouterContract):
    forms = {"every_other": ("every_other:2",)}
"""

from duo_oracle.models.testing.families import FamilyContract
from duo_oracle.models.testing.routers import RouterContract

__all__ = ["FamilyContract", "RouterContract"]
