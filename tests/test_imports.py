"""The one direction of imports, the fences around heavy libraries, and module names. Read from the sources, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "oracle": {"oracle"},
    "models": {"oracle", "models"},
    "results": {"oracle", "results"},
    "search": {"oracle", "models", "results", "search"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module's dotted name, and whether it is imported as soon as the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or "", id(node) not in inside


def files_importing(library: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in FILES if any(name.split(".")[0] == library for name, _ in imported(path))}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = {name.split(".")[0] for name, _ in imported(path)} & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package], f"{path} imports {ours - MAY_IMPORT[package]}"


def test_ray_is_in_one_file() -> None:
    assert files_importing("ray") == {"search/ray_pool.py"}


def test_optuna_is_in_at_most_one_strategy() -> None:
    files = files_importing("optuna")
    assert len(files) <= 1
    assert all(file.startswith("search/strategies/") for file in files)


def test_duckdb_is_in_results_alone() -> None:
    files = files_importing("duckdb")
    assert files
    assert all(file.startswith("results/") for file in files)


def test_transformers_is_in_one_file() -> None:
    assert files_importing("transformers") == {"models/pretrained.py"}


def test_strategies_know_no_torch_ray_files_models_or_results() -> None:
    fenced = {"torch", "ray", "pyarrow", "pathlib", "os", "models", "results"}
    files = [path for path in FILES if path.parent.name == "strategies" or path.name == "strategy.py"]
    for path in files:
        found = {name.split(".")[0] for name, _ in imported(path)} & fenced
        assert not found, f"{path} imports {found}"


def test_results_name_torch_nowhere_at_module_level() -> None:
    for path in (ROOT / "results").rglob("*.py"):
        assert not [name for name, at_once in imported(path) if at_once and name.split(".")[0] == "torch"], path


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("results, results.run, results.sql", "torch ray optuna"),
        ("search.cli, search.config, search.strategy, search.cli.commands.search", "torch ray optuna pandas pyarrow duckdb"),
    ],
)
def test_a_light_import_stays_light(modules: str, absent: str) -> None:
    code = f"import sys, {modules}; print([name for name in {absent.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_named_like_the_standard_library() -> None:
    assert not [path for path in FILES if path.stem in sys.stdlib_module_names]


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
