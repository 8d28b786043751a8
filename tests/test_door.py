"""`import duo_oracle as duo`: the names that it shows, when they are loaded, and what an absent package says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import duo_oracle as duo
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.extras import EXTRA_OF, extras_named

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("models", "oracle", "results", "search")
FACES = ("duo_oracle", *(f"duo_oracle.{folder}" for folder in FOLDERS))


@pytest.mark.parametrize("name", FACES)
def test_every_name_of_a_face_is_there_and_is_listed(name: str) -> None:
    module = importlib.import_module(name)
    for shown in module.__all__:
        assert getattr(module, shown) is not None
        assert shown in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("name", FACES)
def test_type_checkers_see_the_names_that_a_face_shows(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(seen) == sorted(importlib.import_module(name).__all__)
    for shown, module in seen.items():
        value = getattr(importlib.import_module(name), shown)
        assert value is getattr(importlib.import_module(module or ""), shown)


def test_the_folders_are_packages_and_no_function_bears_their_name() -> None:
    for folder in FOLDERS:
        assert getattr(duo, folder) is importlib.import_module(f"duo_oracle.{folder}")


def test_the_door_loads_nothing_until_a_name_is_asked_for() -> None:
    code = (
        "import sys, duo_oracle as duo; heavy = 'numpy pandas pyarrow duckdb matplotlib torch ray optuna'.split();"
        "print([name for name in heavy if name in sys.modules], 'run_search' in dir(duo));"
        "duo.results.load; print([name for name in ('torch', 'ray', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] True", "[]"]


def test_an_absent_package_is_named_with_its_extra() -> None:
    with pytest.raises(InputError, match=r"^route needs torch: pip install 'duo-oracle\[search\]'$"), extras_named("route"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    with pytest.raises(InputError, match=r"duo-oracle\[hf\]"), extras_named("search"):
        raise ModuleNotFoundError("No module named 'transformers.models'", name="transformers.models")
    with pytest.raises(ModuleNotFoundError), extras_named("search"):  # not ours to give
        raise ModuleNotFoundError("No module named 'yours'", name="yours")


def test_every_optional_package_is_in_the_extra_that_is_named() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, extra in EXTRA_OF.items():
        assert any(wanted.startswith(f"{package}>") for wanted in project["optional-dependencies"][extra])
