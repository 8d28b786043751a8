"""Fresh environments without a network: a venv with the project's wheel, and links to what pip would have installed beside it,
and to the packages `beside`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("oracle", "models", "results", "search")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]


def run(*command: str | Path, ok: bool = True, **options: object) -> str:
    """What a program says, on stdout where it succeeds and on stderr where it should not."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout if ok else done.stderr


@dataclass(frozen=True)
class Environment:
    """A venv."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.path / "bin" / "duo-oracle"

    @property
    def site(self) -> Path:
        return next((self.path / "lib").glob("python*/site-packages"))


def environment(path: Path, wheel: Path, extras: Iterable[str], *beside: str) -> Environment:
    """A venv with the wheel, and with links to what `pip install duo-oracle[EXTRAS]` would have installed beside it,
    and to the packages `beside`."""
    run(sys.executable, "-m", "venv", "--without-pip", path)
    made = Environment(path)
    run(sys.executable, "-m", "pip", "--python", made.python, "install", "-q", "--no-deps", "--no-index", wheel)
    waiting = [Requirement(text) for text in (*PROJECT["dependencies"], *beside)]
    waiting += [Requirement(text) for extra in extras for text in EXTRAS[extra]]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found = distribution(wanted.name)
        for entry in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            link = made.site / entry
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(entry))))
        for requirement in map(Requirement, found.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")):
                waiting.append(requirement)
    return made


def wheel_of(source: Path, out: Path) -> Path:
    """The wheel of a project's folder, built without a network."""
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-q", "-w", out, source)
    return next(out.glob("*.whl"))


def project_wheel(folder: Path) -> Path:
    """Our own, built from a copy, so that the build leaves nothing in the tree."""
    copy, out = folder / "source", folder / "wheel"
    for folder in ("duo_oracle", *FOLDERS):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    return wheel_of(copy, out)
