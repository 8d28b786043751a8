"""The one direction of imports, between packages and between rooms; the fences around heavy libraries; the names of modules.

A room is a folder of Python files: `models/text/`, or the root of `models/` itself. Read from the sources, not run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOOR = "duo_oracle"
MAY_IMPORT = {
    "oracle": {"oracle"},
    "models": {"oracle", "models"},
    "results": {"oracle", "results"},
    "search": {"oracle", "models", "results", "search"},
}
MOST_AT_A_ROOT = 12
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name under which a file of the four folders is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((DOOR, *(parts[:-1] if parts[-1] == "__init__" else parts)))


NAMES = {name_of(path): path for path in FILES}


@cache
def imported(path: Path) -> list[tuple[str, bool]]:
    """Every imported module's dotted name, and whether it is imported as soon as the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            submodules = [f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in NAMES]
            found += ((name, id(node) not in inside) for name in submodules or [module])
    return found


def ours(path: Path) -> set[Path]:
    """The files of the four folders that `path` imports."""
    return {NAMES[name] for name, _ in imported(path) if name in NAMES} - {path}


def room(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def files_importing(library: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in FILES if any(name.split(".")[0] == library for name, _ in imported(path))}


def assert_no_circle(arrows: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as circle:
        pytest.fail("a circle of imports: " + " <- ".join(circle.args[1]))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = {package_of(other) for other in ours(path)}
        assert found <= MAY_IMPORT[package], f"{path} imports {found - MAY_IMPORT[package]}"


def test_nothing_behind_the_door_imports_the_door() -> None:
    """`duo_oracle` itself is for users; only where the installed files stand may be asked of it (Ray's import path)."""
    assert {path.relative_to(ROOT).as_posix() for path in FILES if any(name == DOOR for name, _ in imported(path))} <= {
        "search/job/surroundings.py"
    }


def test_no_circle_of_files() -> None:
    assert_no_circle({name_of(path): {name_of(other) for other in ours(path)} for path in FILES})


def test_no_circle_of_rooms() -> None:
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        others = {room(other) for other in ours(path) if not face_or_plugin(path, other)}
        arrows.setdefault(room(path), set()).update(others - {room(path)})
    assert_no_circle(arrows)


def face_or_plugin(path: Path, other: Path) -> bool:
    """A face shows what stands in rooms behind it."""
    return path.name == "__init__.py" and other.is_relative_to(path.parent)


def test_a_packages_root_holds_contracts_that_know_no_room_of_the_package() -> None:
    """Rooms build upon the contracts of their package's root; of the rooms only those of texts and of the hub stand below them."""
    for package in ("oracle", "models"):
        for path in (ROOT / package).glob("*.py"):
            back = {room(other) for other in ours(path) if not face_or_plugin(path, other)}
            allowed = {package, "oracle", "oracle/base", "models/text", "models/hub"}
            assert back <= allowed, f"{path} imports {back - allowed}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_packages_root_is_no_flat_floor(package: str) -> None:
    files = [path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_AT_A_ROOT, f"{package}/ holds {len(files)} files: {', '.join(sorted(files))}"


def test_recipes_are_imported_by_nothing_but_the_papers_study() -> None:
    users = {room(path) for path in FILES for other in ours(path) if room(other) == "models/recipes"}
    assert users <= {"models/recipes", "search/studies"}


def test_ray_is_where_it_is_started_and_where_its_workers_are() -> None:
    assert files_importing("ray") == {"search/job/ray_session.py", "search/job/ray_worker.py"}


def test_every_bar_is_the_one_bar() -> None:
    assert files_importing("tqdm") == {"oracle/base/progress.py"}


def test_optuna_is_in_at_most_one_strategy() -> None:
    files = files_importing("optuna")
    assert len(files) <= 1
    assert all(file.startswith("search/strategies/") for file in files)


def test_duckdb_is_in_results_alone() -> None:
    files = files_importing("duckdb")
    assert files
    assert all(file.startswith("results/") for file in files)


def test_transformers_is_in_one_file() -> None:
    assert files_importing("transformers") == {"models/hf/library.py"}


def test_strategies_know_no_torch_ray_files_models_or_results() -> None:
    fenced = {"torch", "ray", "pyarrow", "pathlib", "os"}
    files = [path for path in FILES if path.parent.name == "strategies" or path.name == "strategy.py"]
    for path in files:
        found = {name.split(".")[0] for name, _ in imported(path)} & fenced
        found |= {package_of(other) for other in ours(path)} & {"models", "results"}
        assert not found, f"{path} imports {found}"


def at_once(paths: Iterable[Path], library: str) -> list[str]:
    return [str(path) for path in paths for name, now in imported(path) if now and name.split(".")[0] == library]


def test_results_name_torch_nowhere_at_module_level() -> None:
    assert not at_once((ROOT / "results").rglob("*.py"), "torch")


def test_the_language_of_patterns_names_torch_nowhere_at_module_level() -> None:
    language = [path for path in (ROOT / "oracle").glob("*.py") if path.name != "model.py"]
    assert not at_once([*language, *(ROOT / "oracle" / "base").glob("*.py")], "torch")


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("duo_oracle", "torch ray optuna pandas pyarrow duckdb numpy"),
        ("duo_oracle.results, duo_oracle.results.store.reader, duo_oracle.results.sql", "torch ray optuna"),
        (
            "duo_oracle.search.cli, duo_oracle.search.job.config, duo_oracle.search.cli.commands.search",
            "torch ray optuna pandas pyarrow duckdb",
        ),
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
