"""What all tests share: models that passed their check are remembered for this session alone, not in the user's cache."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DUO_ORACLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
