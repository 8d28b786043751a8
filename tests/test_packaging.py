"""A wheel of the project holds what it needs, and its command runs where only the wheel and the dependencies are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("oracle", "models", "results", "search")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network from a copy, so that the build leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-q", "-w", str(out), str(copy))
    return next(out.glob("duo_oracle-*.whl"))


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_every_source_query_and_shipped_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    wanted |= set((ROOT / "results" / "queries").glob("*.sql"))
    wanted |= set((ROOT / "results" / "report" / "page").glob("*"))
    for folder in ("duo_tiny", "holdouts"):
        shipped = {path for path in (ROOT / "models" / folder).rglob("*") if path.is_file()}
        assert shipped, f"models/{folder} ships nothing"
        wanted |= shipped
    missing = {path.relative_to(ROOT).as_posix() for path in wanted} - held
    assert not missing
    assert not [name for name in held if name.startswith(("tests/", "runs/"))]


@pytest.mark.slow
def test_the_command_runs_from_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel))
    # The dependencies are this environment's; a .pth makes them importable, and not this environment's editable install.
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for arguments in (["--help"], ["search", "--help"]):
        assert "usage: duo-oracle" in run(str(venv / "bin" / "duo-oracle"), *arguments, cwd=tmp_path)
    files = run(
        str(python), "-c", f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})", cwd=tmp_path
    )
    assert all(Path(file).is_relative_to(venv) for file in files.split())


def test_each_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for dependency in tomllib.loads(text)["project"]["dependencies"]:
        line = next(line for line in text.splitlines() if f'"{dependency}"' in line)
        assert "# " in line, line


def test_each_dependency_is_imported_somewhere() -> None:
    imported = "\n".join(path.read_text(encoding="utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    names = {"pyyaml": "yaml"}
    for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        name = dependency.split(">")[0]
        assert f"import {names.get(name, name)}" in imported or f"from {names.get(name, name)}" in imported, dependency
