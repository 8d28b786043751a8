"""The documentation cannot drift: pages made from the code are what it says, every link resolves, every file says what it is."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("oracle", "models", "results", "search")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.md"))]
)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)|(?:href|src)=\"([^\"]+)\"")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """The page without its blocks and pieces of code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: "x" * len(code[0]), text)


def links(path: Path) -> list[str]:
    return [unquote(markdown or html) for markdown, html in LINK.findall(prose(path))]


def anchors(path: Path) -> set[str]:
    """What a link may name behind its #: headings as GitHub and the site spell them, and ids written out."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {heading.replace(" ", "-") for heading in headings} | set(re.findall(r"\bid=\"([^\"]+)\"", text))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_resolves(path: Path) -> None:
    for link in links(path):
        if re.match(r"https?://", link):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads to no file"
        assert not anchor or anchor in anchors(target), f"{link}: {name_of(target)} has no such heading"


def test_the_pages_of_the_site_link_only_to_what_the_site_holds() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        for link in links(path):
            target = (path.parent / link.partition("#")[0]).resolve()
            assert re.match(r"https?://", link) or target.is_relative_to(ROOT / "docs"), f"{name_of(path)}: {link}"


def test_the_site_lists_every_page() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for item in (entry.values() if isinstance(entry, dict) else entry) for page in pages(item)]  # type: ignore[attr-defined]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / ".ci" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_what_the_code_says(generator: ModuleType) -> None:
    for name, page in generator.PAGES.items():
        assert (ROOT / name).read_text(encoding="utf-8") == page(), f"{name} is stale: make pages writes it again"


def test_the_tree_names_every_file(generator: ModuleType) -> None:
    rows = re.findall(r"^## ([\w/]+/)$|^\| `(\w+\.py)` \| \S", generator.tree_page(), re.MULTILINE)
    named, room = set(), ""
    for heading, file in rows:
        room = heading or room
        named.add(room + file)
    tree = {
        name_of(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip()
    }
    assert tree <= named


def test_every_file_says_what_it_is() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            assert not source.strip() or ast.get_docstring(ast.parse(source)), path


def test_the_readme_is_read_in_one_sitting() -> None:
    assert (ROOT / "README.md").stat().st_size <= 10_240


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        assert not os.environ.get("CI"), "mkdocs is not installed: pip install -e '.[docs]'"
        pytest.skip("mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "site" / "index.html").exists()
