"""Every example in a docstring does what it says."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("oracle", "models", "results", "search")
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
CONTRACTS = {"oracle/model.py", "oracle/engine/scorer.py", "search/strategy.py", "models/router.py", "models/family.py"}


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=str)
def test_examples_do_what_they_say(file: Path) -> None:
    name = ".".join(("duo_oracle", *file.with_suffix("").parts)).removesuffix(".__init__")
    found = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def test_every_contract_has_a_worked_example() -> None:
    assert {path.as_posix() for path in WITH_EXAMPLES} >= CONTRACTS
